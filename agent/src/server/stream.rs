//! The bytes of processes: from the first frame of a connection to the end of the stream.

use std::io;

use husk_protocol::{AgentError, AgentErrorKind, GENERATION, Open, Opened, Stream, frame};

use super::Server;
use super::poller::{EventFlags, Source};
use crate::container::error::chain;
use crate::session::Role;
use crate::session::frame_reader::FrameReader;
use crate::session::input::InputSession;
use crate::session::output::OutputSession;

impl Server {
    /// Takes the first frame of a connection, if it has come, and gives the connection its role.
    pub(super) fn open(&mut self, id: u32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let Some(json) = connection.next_frame()? else { return Ok(()) };
        let role = frame::decode::<Open>(&json)
            .map_err(|error| invalid(chain(&error)))
            .and_then(|open| self.role(id, open));
        let error = role.as_ref().err().cloned();
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.role = role.unwrap_or(Role::Closing);
        connection
            .outgoing
            .push(&Opened { generation: GENERATION, error })
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        connection.flush()?;
        if let Role::Output(_) = connection.role {
            self.send(id)?;
        }
        Ok(())
    }

    /// What a connection is for; one that was for the same before is closed.
    fn role(&mut self, id: u32, open: Open) -> Result<Role, AgentError> {
        match open {
            Open::Control { generation } if generation == GENERATION => {
                Ok(Role::Control { reader: FrameReader::default(), pending: Default::default() })
            }
            Open::Control { generation } => Err(AgentError {
                kind: AgentErrorKind::Unsupported,
                message: format!(
                    "the host speaks generation {generation}, this agent {GENERATION}: \
                     use the guest image of the same release as the host"
                ),
            }),
            Open::Output { process: name, stream, offset } => {
                let key = self.key(&name)?;
                let output =
                    self.processes.get(key).and_then(|process| process.output(stream)).ok_or_else(
                        || invalid(format!("process {name} has no stream {stream:?}")),
                    )?;
                // What the host has stored need not be kept.
                output.buffer.acknowledge(offset).map_err(|error| invalid(error.to_string()))?;
                if output.has_ended() {
                    output.buffer.release();
                }
                let replaced = output.connection.replace(id);
                self.close_replaced(replaced);
                self.watch_output(key, stream);
                Ok(Role::Output(OutputSession::new(key, stream, offset)))
            }
            Open::Input { process: name } => {
                let key = self.key(&name)?;
                let process = self.processes.get(key);
                let input = process
                    .filter(|process| process.stdin_wanted)
                    .and_then(|process| process.input())
                    .filter(|input| !input.is_closed())
                    .ok_or_else(|| AgentError {
                        kind: AgentErrorKind::InvalidState,
                        message: format!("standard input of process {name} is not open"),
                    })?;
                if input.connection.is_none() {
                    input.connection = Some(id);
                } else {
                    let replaced = input.successor.replace(id);
                    self.close_replaced(replaced);
                    self.hand_over_input(key);
                }
                Ok(Role::Input(InputSession::new(key)))
            }
        }
    }

    fn close_replaced(&mut self, replaced: Option<u32>) {
        if let Some(replaced) = replaced {
            if let Some(connection) = self.connections.get_mut(&replaced) {
                // Its stream has a new connection already, from which it must not be detached.
                connection.role = Role::Closing;
            }
            self.close(replaced);
        }
    }

    /// The key of the process that the host calls `name`.
    pub(super) fn key(&self, name: &str) -> Result<u32, AgentError> {
        self.processes.key(name).ok_or_else(|| AgentError {
            kind: AgentErrorKind::NotFound,
            message: format!("no such process: {name}"),
        })
    }

    /// Reads output, and hands it on if a connection waits for it.
    pub(super) fn output_ready(&mut self, key: u32, stream: Stream) {
        let process = self.processes.get(key);
        let Some(output) = process.and_then(|process| process.output(stream)) else { return };
        output.fill();
        self.pass_on(key, stream);
    }

    /// Sends what a stream holds, and watches it for more.
    pub(super) fn pass_on(&mut self, key: u32, stream: Stream) {
        let process = self.processes.get(key);
        let Some(output) = process.and_then(|process| process.output(stream)) else { return };
        if let Some(id) = output.connection {
            match self.send(id) {
                Ok(()) => self.refresh(id),
                Err(_) => self.close(id),
            }
        }
        self.watch_output(key, stream);
    }

    /// Sends output on its connection.
    fn send(&mut self, id: u32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.flush()?;
        if !connection.outgoing.is_empty() {
            return Ok(());
        }
        let (Role::Output(session), fd) = connection.role_and_fd() else { return Ok(()) };
        let process = self.processes.get(session.process);
        match process.and_then(|process| process.output(session.stream)) {
            Some(output) => session.send(fd, output),
            None => Ok(()),
        }
    }

    /// Takes what the host has stored, and sends on.
    pub(super) fn take_acknowledgements(&mut self, id: u32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let (Role::Output(session), fd) = connection.role_and_fd() else { return Ok(()) };
        let (key, stream) = (session.process, session.stream);
        let process = self.processes.get(key);
        let Some(output) = process.and_then(|process| process.output(stream)) else {
            return Ok(());
        };
        session.receive(fd, output)?;
        output.resume();
        self.send(id)?;
        self.watch_output(key, stream);
        Ok(())
    }

    /// Takes standard input from its connection.
    pub(super) fn take_input(&mut self, id: u32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let (Role::Input(session), fd) = connection.role_and_fd() else { return Ok(()) };
        let key = session.process;
        let process = self.processes.get(key);
        let Some(input) = process.and_then(|process| process.input()) else { return Ok(()) };
        let result = session.receive(fd, input);
        self.watch_input(key);
        result.map(drop)
    }

    /// Takes what has come on a connection that has a successor, and closes it: the host may have
    /// sent its last bytes and gone before it opened the next one.
    fn hand_over_input(&mut self, key: u32) {
        loop {
            let process = self.processes.get(key);
            let Some(input) = process.and_then(|process| process.input()) else { return };
            let (Some(id), Some(_)) = (input.connection, input.successor) else { return };
            if !input.has_room() && !input.is_closed() {
                return;
            }
            let connection = self.connections.get_mut(&id);
            let taken = match connection.map(|connection| connection.role_and_fd()) {
                Some((Role::Input(session), fd)) => session.receive(fd, input),
                _ => Ok(false),
            };
            if !taken.unwrap_or(false) {
                self.close(id);
            }
            self.watch_input(key);
        }
    }

    /// Writes standard input on, and takes more of it if there is room again.
    pub(super) fn input_ready(&mut self, key: u32) {
        let process = self.processes.get(key);
        let Some(input) = process.and_then(|process| process.input()) else { return };
        input.flush();
        self.watch_input(key);
        self.hand_over_input(key);
        let process = self.processes.get(key);
        let input = process.and_then(|process| process.input());
        if let Some(id) = input.and_then(|input| input.connection) {
            self.refresh(id);
        }
    }

    /// Watches an output stream for as long as it can be read and there is room.
    pub(super) fn watch_output(&mut self, key: u32, stream: Stream) {
        let source = Source::Output(key, stream);
        let process = self.processes.get(key);
        let Some(output) = process.and_then(|process| process.output(stream)) else {
            return self.poller.forget(source);
        };
        let wanted = match output.wants_read() {
            Some(_) => EventFlags::IN,
            None => EventFlags::empty(),
        };
        match output.source() {
            // Without a watch, its output would wait for the end of the process.
            Some(fd) => drop(self.poller.watch(source, fd, wanted)),
            None => self.poller.forget(source),
        }
    }

    /// Watches standard input for as long as bytes wait for room.
    pub(super) fn watch_input(&mut self, key: u32) {
        let source = Source::Input(key);
        let process = self.processes.get(key);
        let Some(input) = process.and_then(|process| process.input()) else {
            return self.poller.forget(source);
        };
        let wanted = match input.wants_write() {
            Some(_) => EventFlags::OUT,
            None => EventFlags::empty(),
        };
        match input.sink() {
            Some(fd) => drop(self.poller.watch(source, fd, wanted)),
            None => self.poller.forget(source),
        }
    }

    /// Lets a stream, and requests under way, go on without a connection that has been closed.
    pub(super) fn detach(&mut self, id: u32, role: &Role) {
        let forget = |attached: &mut Option<u32>| {
            if *attached == Some(id) {
                *attached = None;
            }
        };
        match role {
            Role::Output(session) => {
                let process = self.processes.get(session.process);
                if let Some(output) = process.and_then(|process| process.output(session.stream)) {
                    forget(&mut output.connection);
                }
            }
            Role::Input(session) => {
                let process = self.processes.get(session.process);
                if let Some(input) = process.and_then(|process| process.input()) {
                    forget(&mut input.successor);
                    forget(&mut input.connection);
                    if input.connection.is_none() {
                        input.connection = input.successor.take();
                        if let Some(successor) = input.connection {
                            self.refresh(successor);
                        }
                    }
                }
            }
            Role::Control { .. } => {
                for process in self.processes.iter_mut() {
                    process.waiters.retain(|waiter| waiter.connection != id);
                }
            }
            Role::Opening(_) | Role::Closing => {}
        }
    }
}

/// An error that says that a request makes no sense.
pub(super) fn invalid(message: String) -> AgentError {
    AgentError { kind: AgentErrorKind::InvalidArgument, message }
}
