//! The event loop: one thread, which nothing but [`Poller::wait`] makes wait.
//!
//! It owns all connections and processes; the other modules here are its hands: `request` for
//! what the host asks, `lifecycle` for what becomes of processes, `stream` for their bytes.

pub mod listener;
pub mod poller;

mod lifecycle;
mod request;
mod stream;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use husk_protocol::{AgentError, AgentErrorKind, Reply, ReplyBody};

use crate::console;
use crate::container::Environment;
use crate::container::error::chain;
use crate::process::{Caller, Processes};
use crate::session::{Connection, Role};
use crate::sys::signal::ChildSignal;
use listener::Listener;
use poller::{EventFlags, Poller, Source};

/// Connections at most: bounds what a host that forgets to close them can make us keep.
const CONNECTIONS_MAX: usize = 64;

/// The agent's state, and its loop.
#[derive(Debug)]
pub struct Server {
    poller: Poller,
    listener: Listener,
    children: ChildSignal,
    environment: Environment,
    connections: HashMap<u32, Connection>,
    next_connection: u32,
    processes: Processes,
    /// Who asked for the end, once it was asked for.
    stopping: Option<Caller>,
}

impl Server {
    /// Takes the listening socket, the notice of children's ends, and where containers are made.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(
        listener: Listener,
        children: ChildSignal,
        environment: Environment,
    ) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        poller.watch(Source::Listener, &listener, EventFlags::IN)?;
        poller.watch(Source::Children, &children, EventFlags::IN)?;
        Ok(Self {
            poller,
            listener,
            children,
            environment,
            connections: HashMap::new(),
            next_connection: 0,
            processes: Processes::default(),
            stopping: None,
        })
    }

    /// Serves until the host asks for the end. Returns the connection on which it did, with the
    /// answer sent, if it is still there.
    ///
    /// # Errors
    /// The kernel's, where the loop itself cannot go on.
    pub fn run(mut self) -> io::Result<Option<OwnedFd>> {
        loop {
            for source in self.poller.wait()? {
                self.dispatch(source)?;
            }
            if let Some(caller) = self.stopping.filter(|_| self.processes.have_all_ended()) {
                self.processes.clear();
                rustix::fs::sync();
                self.reply(caller, ReplyBody::Done);
                return Ok(self.connections.remove(&caller.connection).map(Connection::into_fd));
            }
        }
    }

    fn dispatch(&mut self, source: Source) -> io::Result<()> {
        match source {
            Source::Listener => self.accept()?,
            Source::Children => self.reap(),
            Source::Connection(id) => self.connection_ready(id),
            Source::Channel(key) => self.channel_ready(key),
            Source::Output(key, stream) => self.output_ready(key, stream),
            Source::Input(key) => self.input_ready(key),
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(fd) = self.listener.accept()? {
            if self.connections.len() >= CONNECTIONS_MAX {
                console::error(format_args!(
                    "more than {CONNECTIONS_MAX} connections, one refused"
                ));
                continue;
            }
            let id = self.next_connection;
            self.next_connection = id.wrapping_add(1);
            self.connections.insert(id, Connection::new(fd));
            self.refresh(id);
        }
        Ok(())
    }

    /// Does what a connection is ready for; closes it if that fails.
    fn connection_ready(&mut self, id: u32) {
        let result = self.advance(id);
        match result {
            Ok(()) => self.refresh(id),
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    console::error(format_args!("connection closed: {}", chain(&error)));
                }
                self.close(id);
            }
        }
    }

    fn advance(&mut self, id: u32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.flush()?;
        match &connection.role {
            Role::Opening(_) => self.open(id),
            Role::Control { .. } => self.take_requests(id),
            Role::Output(_) => self.take_acknowledgements(id),
            Role::Input(_) => self.take_input(id),
            Role::Closing => Ok(()),
        }
    }

    /// Sends a reply, or forgets it if the host has gone.
    fn reply(&mut self, caller: Caller, body: ReplyBody) {
        let Some(connection) = self.connections.get_mut(&caller.connection) else { return };
        if let Role::Control { pending, .. } = &mut connection.role {
            pending.remove(&caller.request);
        }
        let id = caller.request;
        let pushed = connection.outgoing.push(&Reply { id, body }).or_else(|error| {
            let error = AgentError { kind: AgentErrorKind::Internal, message: chain(&error) };
            connection.outgoing.push(&Reply { id, body: ReplyBody::Error(error) })
        });
        if pushed.is_err() || connection.flush().is_err() {
            self.close(caller.connection);
        } else {
            self.refresh(caller.connection);
        }
    }

    /// Watches a connection for what it can do next, or closes it if that is nothing.
    fn refresh(&mut self, id: u32) {
        let Some(connection) = self.connections.get(&id) else { return };
        let mut wanted = EventFlags::empty();
        if !connection.outgoing.is_empty() {
            wanted |= EventFlags::OUT;
        }
        let mut finished = false;
        match &connection.role {
            Role::Opening(_) => wanted |= EventFlags::IN,
            Role::Control { .. } => {
                if !connection.outgoing.is_congested() {
                    wanted |= EventFlags::IN;
                }
            }
            Role::Output(session) => {
                wanted |= EventFlags::IN;
                let process = self.processes.get(session.process);
                match process.and_then(|process| process.output(session.stream)) {
                    Some(stream) if session.has_more(stream) => wanted |= EventFlags::OUT,
                    Some(_) => {}
                    None => finished = true,
                }
            }
            Role::Input(session) => {
                let process = self.processes.get(session.process);
                match process.and_then(|process| process.input()) {
                    Some(stream) if stream.has_room() => {
                        // A successor waits for its turn.
                        if stream.connection == Some(id) {
                            wanted |= EventFlags::IN;
                        }
                    }
                    Some(stream) => finished = stream.is_closed(),
                    None => finished = true,
                }
            }
            Role::Closing => finished = true,
        }
        // What was said last is sent first.
        finished &= connection.outgoing.is_empty();
        let source = Source::Connection(id);
        if finished || self.poller.watch(source, connection, wanted).is_err() {
            self.close(id);
        }
    }

    /// Closes a connection; what it carried goes on without it.
    fn close(&mut self, id: u32) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let source = Source::Connection(id);
        // It may not be watched at all, or its descriptor be of no use any more.
        let _ = self.poller.watch(source, connection.as_fd(), EventFlags::empty());
        self.poller.forget(source);
        self.detach(id, &connection.role);
    }
}
