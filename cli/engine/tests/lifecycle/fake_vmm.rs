//! A `husk-vmm` without a VM: takes the handover, serves control socket and vsock listener, and
//! plays the agent with processes of the host. The engine cannot tell the difference.
//!
//! The guest's memory size chooses what goes wrong: see [`HANGS_MIB`] and [`FAILS_MIB`].

use std::collections::HashMap;
use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStdin, Command, ExitStatus as HostExit, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use husk_protocol::{
    AgentError, AgentErrorKind, CreateContainer, ExitStatus, GENERATION, Open, Opened, READY_PORT,
    Reply, ReplyBody, Request, RequestBody, Stream, chunk, frame,
};
use husk_vmm_config::handover::{HEADER_LENGTH, Header};
use husk_vmm_config::{Command as Control, Event, Statistics, Step, StopReason, VmConfig, step};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A guest of this size (`-m 6m`) never calls back.
pub(crate) const HANGS_MIB: u32 = 70;

/// A guest of this size (`-m 7m`) cannot be set up.
pub(crate) const FAILS_MIB: u32 = 71;

/// Runs until the VM ends; ends the process.
pub(crate) fn run() -> ! {
    let (config, fds) = take_handover();
    let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    let mut take = |index: u32| fds[index as usize].take().unwrap();
    let control = UnixListener::from(take(config.control.0));
    let report = std::fs::File::from(take(config.report.0));
    let vsock = UnixListener::from(take(config.vsock.listener.0));
    let world = Arc::new(World { config, report: Mutex::new(report), guest: Mutex::default() });
    if world.config.memory_mib == FAILS_MIB {
        let error = "there is not enough memory".to_owned();
        world.end(StopReason::Setup { error });
    }
    let served = Arc::clone(&world);
    thread::spawn(move || {
        for connection in control.incoming() {
            let world = Arc::clone(&served);
            thread::spawn(move || world.serve_control(&connection.unwrap()));
        }
    });
    if world.config.memory_mib != HANGS_MIB {
        let ready = world.config.vsock.directory.join(format!("guest-{READY_PORT}.sock"));
        drop(UnixStream::connect(ready).unwrap());
    }
    for connection in vsock.incoming() {
        let world = Arc::clone(&world);
        thread::spawn(move || world.serve_guest_port(&connection.unwrap()));
    }
    std::process::exit(1);
}

fn take_handover() -> (VmConfig, Vec<OwnedFd>) {
    let mut socket = UnixStream::from(rustix::io::dup(rustix::stdio::stdin()).unwrap());
    let mut header = [0; HEADER_LENGTH];
    if socket.read_exact(&mut header).is_err() {
        std::process::exit(1);
    }
    let header = Header::decode(header).unwrap();
    let mut document = vec![0; header.document_length];
    socket.read_exact(&mut document).unwrap();
    let config: VmConfig = serde_json::from_slice(&document).unwrap();
    let mut fds = Vec::new();
    for _ in 0..header.batch_count() {
        let mut byte = [1];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
        let mut messages = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut byte)];
        recvmsg(&socket, &mut slices, &mut messages, RecvFlags::CMSG_CLOEXEC).unwrap();
        for message in messages.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        assert_eq!(byte, [0]);
    }
    assert_eq!(fds.len(), header.fd_count);
    config.validate(fds.len()).unwrap();
    (config, fds)
}

struct World {
    config: VmConfig,
    report: Mutex<std::fs::File>,
    guest: Mutex<HashMap<String, Arc<Container>>>,
}

/// A container of the guest that there is not.
struct Container {
    create: CreateContainer,
    process: Mutex<Process>,
    changed: Condvar,
}

#[derive(Default)]
struct Process {
    pid: Option<u32>,
    stdin: Option<ChildStdin>,
    outputs: HashMap<Stream, (Vec<u8>, bool)>,
    exit: Option<ExitStatus>,
}

impl World {
    fn end(&self, reason: StopReason) -> ! {
        let event = Event::Stopped { reason, console: "the end\n".to_owned() };
        let mut report = self.report.lock().unwrap();
        report.write_all(&serde_json::to_vec(&event).unwrap()).unwrap();
        for container in self.guest.lock().unwrap().values() {
            container.signal(Signal::KILL);
        }
        std::process::exit(0);
    }

    fn serve_control(&self, connection: &UnixStream) {
        let mut writer = connection;
        let hello = Event::Hello { version: "fake".to_owned(), pid: std::process::id() };
        let started = Event::Started { accelerator: self.config.accelerator };
        for event in [hello, started] {
            writeln!(writer, "{}", serde_json::to_string(&event).unwrap()).unwrap();
        }
        for line in BufReader::new(connection).lines() {
            let Ok(line) = line else { return };
            let answer = match serde_json::from_str(&line).unwrap() {
                Control::Stop => {
                    let console = "the end\n".to_owned();
                    Event::Stopped { reason: StopReason::Requested, console }
                }
                Control::Statistics => Event::Statistics(Statistics {
                    steps: vec![Step { name: step::CALLED.to_owned(), us: 1200 }],
                    exits: [("hlt".to_owned(), 3)].into(),
                    ..Statistics::default()
                }),
            };
            writeln!(writer, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
            if matches!(answer, Event::Stopped { .. }) {
                self.end(StopReason::Requested);
            }
        }
    }

    fn serve_guest_port(self: &Arc<Self>, connection: &UnixStream) {
        let mut reader = connection.try_clone().unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            if reader.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            line.push(byte[0]);
        }
        assert_eq!(line, b"CONNECT 1024\n");
        if self.config.memory_mib == HANGS_MIB {
            return;
        }
        let mut writer = connection;
        writer.write_all(b"OK 1024\n").unwrap();
        let Some(open) = read_frame::<Open>(&mut reader) else { return };
        let process = match &open {
            Open::Control { .. } => None,
            Open::Output { process, .. } | Open::Input { process } => {
                Some(self.guest.lock().unwrap().get(process).cloned())
            }
        };
        let error = matches!(process, Some(None))
            .then(|| AgentError { kind: AgentErrorKind::NotFound, message: "no process".into() });
        write_frame(connection, &Opened { generation: GENERATION, error });
        match (open, process.flatten()) {
            (Open::Control { .. }, _) => self.serve_requests(connection),
            (Open::Output { stream, offset, .. }, Some(process)) => {
                process.send_output(connection, stream, offset);
            }
            (Open::Input { .. }, Some(process)) => process.take_input(reader),
            _ => {}
        }
    }

    fn serve_requests(self: &Arc<Self>, connection: &UnixStream) {
        let mut reader = connection.try_clone().unwrap();
        let writer = Arc::new(Mutex::new(connection.try_clone().unwrap()));
        while let Some(request) = read_frame::<Request>(&mut reader) {
            let (world, writer) = (Arc::clone(self), Arc::clone(&writer));
            thread::spawn(move || {
                let is_last = matches!(request.body, RequestBody::Shutdown);
                let body = world.answer(request.body).unwrap_or_else(ReplyBody::Error);
                write_frame(&writer.lock().unwrap(), &Reply { id: request.id, body });
                if is_last {
                    world.end(StopReason::Guest);
                }
            });
        }
    }

    fn answer(&self, request: RequestBody) -> Result<ReplyBody, AgentError> {
        match request {
            RequestBody::CreateContainer(create) => {
                let container = Container {
                    create: *create,
                    process: Mutex::default(),
                    changed: Condvar::new(),
                };
                let id = container.create.id.clone();
                self.guest.lock().unwrap().insert(id, Arc::new(container));
            }
            RequestBody::Start { process } => {
                let pid = self.process(&process)?.start()?;
                return Ok(ReplyBody::Started { pid });
            }
            RequestBody::Wait { process } => {
                return Ok(ReplyBody::Exited(self.process(&process)?.wait()));
            }
            RequestBody::Signal { process, signal, .. } => {
                let signal = Signal::from_named_raw(signal).unwrap();
                self.process(&process)?.signal(signal);
            }
            RequestBody::Resize { .. } | RequestBody::SetTime { .. } | RequestBody::Shutdown => {}
            RequestBody::Info => unreachable!("the engine does not ask"),
        }
        Ok(ReplyBody::Done)
    }

    fn process(&self, id: &str) -> Result<Arc<Container>, AgentError> {
        self.guest.lock().unwrap().get(id).cloned().ok_or_else(|| AgentError {
            kind: AgentErrorKind::NotFound,
            message: format!("no process {id}"),
        })
    }
}

impl Container {
    fn start(self: &Arc<Self>) -> Result<u32, AgentError> {
        let process = self.create.spec.process().clone().unwrap();
        let args = process.args().clone().unwrap();
        let mut child = Command::new(&args[0])
            .args(&args[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| AgentError {
                kind: match error.kind() {
                    std::io::ErrorKind::NotFound => AgentErrorKind::CommandNotFound,
                    std::io::ErrorKind::PermissionDenied => AgentErrorKind::CommandNotExecutable,
                    _ => AgentErrorKind::Internal,
                },
                message: error.to_string(),
            })?;
        let pid = child.id();
        let mut state = self.process.lock().unwrap();
        state.pid = Some(pid);
        // Held by us alone: a child that reads ends when we are killed.
        state.stdin = child.stdin.take();
        drop(state);
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        self.collect(Stream::Stdout, stdout);
        self.collect(Stream::Stderr, stderr);
        let container = Arc::clone(self);
        thread::spawn(move || container.reap(child));
        Ok(pid)
    }

    fn reap(&self, mut child: Child) {
        let status = child.wait().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        self.process.lock().unwrap().exit = Some(ExitStatus {
            code: exit_code(status),
            oom_killed: false,
            exited_at_unix_ns: u64::try_from(now.as_nanos()).unwrap(),
        });
        self.changed.notify_all();
    }

    fn collect(self: &Arc<Self>, stream: Stream, mut pipe: impl Read + Send + 'static) {
        let container = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let length = pipe.read(&mut buffer).unwrap_or(0);
                let mut state = container.process.lock().unwrap();
                let output = state.outputs.entry(stream).or_default();
                output.0.extend_from_slice(&buffer[..length]);
                output.1 = length == 0;
                drop(state);
                container.changed.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
    }

    fn send_output(&self, mut connection: &UnixStream, stream: Stream, offset: u64) {
        let mut acknowledgements = connection.try_clone().unwrap();
        thread::spawn(move || std::io::copy(&mut acknowledgements, &mut std::io::sink()));
        let mut at = usize::try_from(offset).unwrap();
        let mut state = self.process.lock().unwrap();
        loop {
            let (bytes, is_end) = state.outputs.entry(stream).or_default().clone();
            let is_behind = at < bytes.len();
            if is_behind || is_end {
                drop(state);
                // An empty chunk is the end.
                let piece = &bytes[at..bytes.len().min(at + 5000)];
                let header = chunk::encode_header(u32::try_from(piece.len()).unwrap()).unwrap();
                if connection.write_all(&[&header[..], piece].concat()).is_err() || !is_behind {
                    return;
                }
                at += piece.len();
                state = self.process.lock().unwrap();
            } else {
                state = self.changed.wait(state).unwrap();
            }
        }
    }

    fn take_input(&self, mut connection: UnixStream) {
        loop {
            let mut header = [0; chunk::HEADER_LEN];
            if connection.read_exact(&mut header).is_err() {
                return;
            }
            let mut bytes = vec![0; chunk::decode_header(header).unwrap()];
            connection.read_exact(&mut bytes).unwrap();
            // It may be sent before the process runs.
            let mut state = self.process.lock().unwrap();
            while state.pid.is_none() {
                drop(state);
                thread::yield_now();
                state = self.process.lock().unwrap();
            }
            if bytes.is_empty() {
                state.stdin = None;
                return;
            }
            let stdin = state.stdin.take();
            drop(state);
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&bytes);
                self.process.lock().unwrap().stdin = Some(stdin);
            }
        }
    }

    fn wait(&self) -> ExitStatus {
        let mut state = self.process.lock().unwrap();
        loop {
            match state.exit {
                Some(exit) => return exit,
                None => state = self.changed.wait(state).unwrap(),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let state = self.process.lock().unwrap();
        if let (Some(pid), None) = (state.pid, state.exit) {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ = kill_process(pid, signal);
        }
    }
}

fn exit_code(status: HostExit) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
    u8::try_from(code).unwrap()
}

fn read_frame<T: DeserializeOwned>(stream: &mut UnixStream) -> Option<T> {
    let mut header = [0; frame::HEADER_LEN];
    stream.read_exact(&mut header).ok()?;
    let mut json = vec![0; frame::decode_length(header).unwrap()];
    stream.read_exact(&mut json).ok()?;
    Some(frame::decode(&json).unwrap())
}

fn write_frame(mut stream: &UnixStream, message: &impl Serialize) {
    let _ = stream.write_all(&frame::encode(message).unwrap());
}
