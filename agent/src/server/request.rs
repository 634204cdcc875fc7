//! What the host asks on a control connection.

use std::io;

use husk_protocol::limits::REQUESTS_MAX;
use husk_protocol::{
    AgentError, AgentErrorKind, CreateContainer, GuestInfo, Reply, ReplyBody, Request, RequestBody,
    frame,
};
use serde::Deserialize;

use super::Server;
use super::poller::{EventFlags, Source};
use super::stream::invalid;
use crate::clock;
use crate::container::Container;
use crate::container::channel;
use crate::container::error::{Attempt, ContainerError, chain};
use crate::process::{Caller, Process, State};
use crate::session::Role;
use crate::sys::process::kill;

/// Requests taken in one turn, so that one connection does not keep others waiting.
const REQUESTS_PER_TURN: usize = 16;

/// Signal number of `SIGKILL`.
const SIGKILL: i32 = 9;

/// The largest signal number of Linux.
const SIGNAL_MAX: i32 = 64;

/// What is left of a request that could not be understood.
#[derive(Deserialize)]
struct RequestId {
    #[serde(rename = "request_id")]
    id: u64,
}

impl Server {
    /// Takes the requests that have come.
    pub(super) fn take_requests(&mut self, id: u32) -> io::Result<()> {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
            if connection.outgoing.is_congested() {
                return Ok(());
            }
            let Some(json) = connection.next_frame()? else { return Ok(()) };
            self.take_request(id, &json)?;
        }
        Ok(())
    }

    fn take_request(&mut self, connection: u32, json: &[u8]) -> io::Result<()> {
        let request = frame::decode::<Request>(json);
        let id = match (&request, frame::decode::<RequestId>(json)) {
            (Ok(request), _) => request.id,
            (Err(_), Ok(request)) => request.id,
            (Err(_), Err(error)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        let caller = Caller { connection, request: id };
        let result = request.map_err(|error| invalid(chain(&error))).and_then(|request| {
            self.register(caller)?;
            Ok(request)
        });
        match result {
            Ok(request) => match self.perform(caller, request.body) {
                Ok(Some(body)) => self.reply(caller, body),
                Ok(None) => {}
                Err(error) => self.reply(caller, ReplyBody::Error(error)),
            },
            // Not by `reply`, which would end another request of the same ID.
            Err(error) => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    let reply = Reply { id, body: ReplyBody::Error(error) };
                    let pushed = connection.outgoing.push(&reply);
                    pushed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    connection.flush()?;
                }
            }
        }
        Ok(())
    }

    /// Notes that a request is under way.
    fn register(&mut self, caller: Caller) -> Result<(), AgentError> {
        let connection = self.connections.get_mut(&caller.connection);
        let Some(Role::Control { pending, .. }) = connection.map(|found| &mut found.role) else {
            return Err(invalid("not a control connection".to_owned()));
        };
        if pending.len() >= REQUESTS_MAX {
            return Err(invalid(format!("more than {REQUESTS_MAX} requests under way")));
        }
        if !pending.insert(caller.request) {
            return Err(invalid(format!("request {} is under way already", caller.request)));
        }
        Ok(())
    }

    /// Does what is asked. Returns the answer, or `None` if it comes later.
    fn perform(
        &mut self,
        caller: Caller,
        body: RequestBody,
    ) -> Result<Option<ReplyBody>, AgentError> {
        match body {
            RequestBody::CreateContainer(request) => self.create(caller, &request).map(|()| None),
            RequestBody::Start { process } => self.start(caller, &process).map(|()| None),
            RequestBody::Wait { process } => self.wait(caller, &process),
            RequestBody::Signal { process, signal, all } => self.signal(&process, signal, all),
            RequestBody::Resize { process, rows, columns } => {
                let process = self.named(&process)?;
                process.resize(rows, columns).map_err(|error| {
                    if error.kind() == io::ErrorKind::NotFound {
                        let message = format!("process {} has no terminal", process.name);
                        return AgentError { kind: AgentErrorKind::InvalidState, message };
                    }
                    system("resize the terminal", error)
                })?;
                Ok(Some(ReplyBody::Done))
            }
            RequestBody::SetTime { unix_ns } => {
                clock::set(unix_ns).map_err(|error| system("set the clock", error))?;
                Ok(Some(ReplyBody::Done))
            }
            RequestBody::Info => guest_info().map(|info| Some(ReplyBody::Info(info))),
            RequestBody::Shutdown => self.shut_down(caller).map(|()| None),
        }
    }

    fn create(&mut self, caller: Caller, request: &CreateContainer) -> Result<(), AgentError> {
        if self.stopping.is_some() {
            return Err(stopping());
        }
        if self.processes.key(&request.id).is_some() {
            return Err(AgentError {
                kind: AgentErrorKind::InvalidState,
                message: format!("container {} exists already", request.id),
            });
        }
        let (container, first) = Container::create(&self.environment, request)
            .map_err(|error| AgentError::from(&error))?;
        let process = Process::new(request.id.clone(), request.stdin, container, first, caller);
        let key = self.processes.insert(process);
        self.watch_channel(key);
        self.watch_streams(key);
        Ok(())
    }

    fn start(&mut self, caller: Caller, name: &str) -> Result<(), AgentError> {
        let process = self.named(name)?;
        match std::mem::replace(&mut process.state, State::Running) {
            State::Prepared { channel } => {
                let started = channel::send_start(&channel);
                process.state = State::Starting { caller, channel };
                // A process that has just died is answered for when it is reaped.
                drop(started);
                Ok(())
            }
            other => {
                process.state = other;
                Err(process.refuse("start"))
            }
        }
    }

    fn wait(&mut self, caller: Caller, name: &str) -> Result<Option<ReplyBody>, AgentError> {
        let process = self.named(name)?;
        if let State::Ended(status) = process.state {
            return Ok(Some(ReplyBody::Exited(status)));
        }
        process.waiters.push(caller);
        Ok(None)
    }

    fn signal(
        &mut self,
        name: &str,
        signal: i32,
        all: bool,
    ) -> Result<Option<ReplyBody>, AgentError> {
        if !(1..=SIGNAL_MAX).contains(&signal) {
            return Err(invalid(format!("signal {signal} is not in 1 to {SIGNAL_MAX}")));
        }
        let process = self.named(name)?;
        match process.state {
            State::Running | State::Starting { .. } => {}
            // Until its program runs, a process takes no signal but this one.
            State::Prepared { .. } if signal == SIGKILL => {}
            _ => return Err(process.refuse("signal")),
        }
        let result = if all {
            process.container.cgroup.signal_all(signal)
        } else {
            kill(process.pid, signal)
                .attempt(|| format!("send signal {signal} to process {}", process.name))
        };
        result.map_err(|error: ContainerError| AgentError::from(&error))?;
        Ok(Some(ReplyBody::Done))
    }

    /// Kills everything; the answer comes when all has ended.
    fn shut_down(&mut self, caller: Caller) -> Result<(), AgentError> {
        if self.stopping.is_some() {
            return Err(stopping());
        }
        self.stopping = Some(caller);
        for process in self.processes.iter_mut() {
            if matches!(process.state, State::Ended(_)) {
                continue;
            }
            // Whichever of the two fails, the other ends the container's first process, and the
            // kernel ends the rest with it.
            let killed = process.container.cgroup.signal_all(SIGKILL);
            kill(process.pid, SIGKILL)
                .or(killed.map_err(io::Error::other))
                .map_err(|error| system("kill a container", error))?;
        }
        Ok(())
    }

    /// The process that the host calls `name`.
    fn named(&mut self, name: &str) -> Result<&mut Process, AgentError> {
        let key = self.key(name)?;
        Ok(self.processes.get(key).expect("the key was just found"))
    }

    /// Watches for what a process reports before its program runs.
    pub(super) fn watch_channel(&mut self, key: u32) {
        let source = Source::Channel(key);
        let process = self.processes.get(key);
        match process.and_then(|process| process.state.channel()) {
            // Without a watch, the end of the process tells as much.
            Some(channel) => drop(self.poller.watch(source, channel, EventFlags::IN)),
            None => self.poller.forget(source),
        }
    }
}

fn stopping() -> AgentError {
    AgentError {
        kind: AgentErrorKind::InvalidState,
        message: "the guest is shutting down".to_owned(),
    }
}

fn system(attempt: &str, error: io::Error) -> AgentError {
    AgentError::from(&ContainerError::System { attempt: attempt.to_owned(), source: error })
}

fn guest_info() -> Result<GuestInfo, AgentError> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|error| system("read the boot ID", error))?;
    Ok(GuestInfo {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        boot_id: boot_id.trim().to_owned(),
        uptime_ms: clock::uptime_ms(),
    })
}
