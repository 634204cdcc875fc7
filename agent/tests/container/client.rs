//! The host's side, as plainly as it can be written.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use husk_protocol::{
    AgentError, CreateContainer, ExitStatus, GENERATION, Open, Opened, Reply, ReplyBody, Request,
    RequestBody, Rootfs, Stream, chunk, frame,
};
use serde_json::{Value, json};

use crate::guest::Guest;

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to a server.
pub(crate) fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects and says what for.
pub(crate) fn open(guest: &Guest, open: &Open) -> Result<UnixStream, AgentError> {
    let mut stream = connect(&guest.socket()).unwrap();
    write_frame(&mut stream, open);
    let opened: Opened = read_frame(&mut stream).unwrap();
    assert_eq!(opened.generation, GENERATION);
    opened.error.map_or(Ok(stream), Err)
}

/// A control connection.
pub(crate) struct Control {
    stream: UnixStream,
    next: u64,
}

impl Control {
    /// Opens one.
    pub(crate) fn open(socket: &Path) -> Self {
        let mut stream = connect(socket).unwrap();
        write_frame(&mut stream, &Open::Control { generation: GENERATION });
        let opened: Opened = read_frame(&mut stream).unwrap();
        assert_eq!(opened.error, None);
        Self { stream, next: 0 }
    }

    /// Asks without waiting for the answer. Returns the request's ID.
    pub(crate) fn send(&mut self, body: RequestBody) -> u64 {
        self.next += 1;
        write_frame(&mut self.stream, &Request { id: self.next, body });
        self.next
    }

    /// The next answer, whatever it answers.
    pub(crate) fn receive(&mut self) -> Reply {
        read_frame(&mut self.stream).unwrap()
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, body: RequestBody) -> ReplyBody {
        let id = self.send(body);
        let reply = self.receive();
        assert_eq!(reply.id, id);
        reply.body
    }

    /// Creates a container, which must work.
    pub(crate) fn create(&mut self, container: CreateContainer) {
        let reply = self.ask(RequestBody::CreateContainer(Box::new(container)));
        assert_eq!(reply, ReplyBody::Done);
    }

    /// Starts its process, which must work.
    pub(crate) fn start(&mut self, process: &str) {
        let reply = self.ask(RequestBody::Start { process: process.to_owned() });
        assert!(matches!(reply, ReplyBody::Started { .. }), "{reply:?}");
    }

    /// Waits for the end of a process.
    pub(crate) fn wait(&mut self, process: &str) -> ExitStatus {
        match self.ask(RequestBody::Wait { process: process.to_owned() }) {
            ReplyBody::Exited(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a signal, which must work.
    pub(crate) fn signal(&mut self, process: &str, signal: i32, all: bool) {
        let process = process.to_owned();
        let reply = self.ask(RequestBody::Signal { process, signal, all });
        assert_eq!(reply, ReplyBody::Done);
    }
}

/// What a finished process left.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Finished {
    pub(crate) code: u8,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a container to its end.
pub(crate) fn run(guest: &Guest, container: CreateContainer) -> Finished {
    let id = container.id.clone();
    let mut control = guest.control();
    control.create(container);
    control.start(&id);
    let text = |stream| String::from_utf8(read_all(guest, &id, stream)).unwrap();
    let (stdout, stderr) = (text(Stream::Stdout), text(Stream::Stderr));
    Finished { code: control.wait(&id).code, stdout, stderr }
}

/// Runs a shell script in a container of the plain image, which must succeed; its output.
pub(crate) fn shell(guest: &Guest, id: &str, script: &str) -> String {
    let finished = run(guest, container(id, &["sh", "-c", script]));
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{}", finished.stdout);
    finished.stdout
}

/// An error that an answer must be.
pub(crate) fn error_of(reply: ReplyBody) -> AgentError {
    match reply {
        ReplyBody::Error(error) => error,
        other => panic!("{other:?}"),
    }
}

/// Opens an output stream.
pub(crate) fn output(
    guest: &Guest,
    id: &str,
    stream: Stream,
    offset: u64,
) -> Result<UnixStream, AgentError> {
    open(guest, &Open::Output { process: id.to_owned(), stream, offset })
}

/// Opens standard input.
pub(crate) fn input(guest: &Guest, id: &str) -> Result<UnixStream, AgentError> {
    open(guest, &Open::Input { process: id.to_owned() })
}

/// Reads an output stream to its end, acknowledging all.
pub(crate) fn read_all(guest: &Guest, id: &str, stream: Stream) -> Vec<u8> {
    let mut connection = output(guest, id, stream, 0).unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = read_chunk(&mut connection) {
        bytes.extend(chunk);
        acknowledge(&mut connection, bytes.len());
    }
    bytes
}

/// The next chunk, `None` at the end of the stream.
pub(crate) fn read_chunk(connection: &mut UnixStream) -> Option<Vec<u8>> {
    let mut header = [0; chunk::HEADER_LEN];
    connection.read_exact(&mut header).unwrap();
    let mut bytes = vec![0; chunk::decode_header(header).unwrap()];
    connection.read_exact(&mut bytes).unwrap();
    (!bytes.is_empty()).then_some(bytes)
}

/// Acknowledges.
pub(crate) fn acknowledge(connection: &mut UnixStream, total: usize) {
    // The server may have gone with its last chunk.
    let _ = connection.write_all(&(total as u64).to_le_bytes());
}

/// Sends standard input; empty bytes end it.
pub(crate) fn feed(connection: &mut UnixStream, bytes: &[u8]) {
    let chunks: Vec<&[u8]> =
        if bytes.is_empty() { vec![b""] } else { bytes.chunks(65536).collect() };
    for bytes in chunks {
        let length = u32::try_from(bytes.len()).unwrap();
        connection.write_all(&chunk::encode_header(length).unwrap()).unwrap();
        connection.write_all(bytes).unwrap();
    }
}

pub(crate) fn write_frame<T: serde::Serialize>(stream: &mut UnixStream, message: &T) {
    stream.write_all(&frame::encode(message).unwrap()).unwrap();
}

pub(crate) fn read_frame<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut header = [0; frame::HEADER_LEN];
    stream.read_exact(&mut header)?;
    let mut json = vec![0; frame::decode_length(header).unwrap()];
    stream.read_exact(&mut json)?;
    Ok(frame::decode(&json).unwrap())
}

/// A container of the plain image, as Docker would ask for it.
pub(crate) fn container(id: &str, args: &[&str]) -> CreateContainer {
    container_with(id, args, |_| {})
}

/// One with changes to its spec.
pub(crate) fn container_with(
    id: &str,
    args: &[&str],
    change: impl FnOnce(&mut Value),
) -> CreateContainer {
    let mut spec = spec(args);
    change(&mut spec);
    CreateContainer {
        id: id.to_owned(),
        rootfs: Rootfs { image_disk: "image".into(), writable_disk: "writable".into() },
        user: String::new(),
        spec: serde_json::from_value(spec).unwrap(),
        files: Vec::new(),
        stdin: false,
    }
}

fn spec(args: &[&str]) -> Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE"
    ]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin:/sbin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities,
                "permitted": capabilities},
        },
        "root": {"path": "rootfs"},
        "hostname": "den",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
                "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620",
                    "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "network"}, {"type": "uts"},
                {"type": "pid"}, {"type": "ipc"}, {"type": "cgroup"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware",
                "/proc/no-such-file"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq"],
        },
    })
}
