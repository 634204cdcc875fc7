//! The thread that serves a group of devices.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use husk_devices::virtio::{Device, Readiness};
use rustix::event::{EventfdFlags, eventfd};
use vhost::vhost_user::{BackendReqHandler, Error as VhostUserError};

use super::service::Service;
use super::token::Token;
use super::{Notice, Notices};
use crate::poll::{Poll, Watch};
use crate::seccomp::{self, ThreadKind};

/// The deepest call chain is a request's, with a few KiB of buffers in it.
const STACK_LENGTH: usize = 256 << 10;

/// A group that could not be served.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the {group} devices")]
pub(crate) struct WorkerError {
    group: &'static str,
    source: io::Error,
}

/// A running thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Serves each device to the front end at the other end of its socket. What the devices watch
    /// is on `poll` already, under [`device_tokens`](super::device_tokens).
    pub(crate) fn start(
        group: &'static str,
        poll: Arc<Poll>,
        devices: Vec<(Box<dyn Device>, UnixStream)>,
        notices: Notices,
    ) -> Result<Self, WorkerError> {
        Self::try_start(group, poll, devices, notices)
            .map_err(|source| WorkerError { group, source })
    }

    fn try_start(
        group: &'static str,
        poll: Arc<Poll>,
        devices: Vec<(Box<dyn Device>, UnixStream)>,
        notices: Notices,
    ) -> io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        poll.add(&stop, Token::Stop.encode(), Watch::Readable)?;
        let mut endpoints = Vec::with_capacity(devices.len());
        for (place, (device, socket)) in devices.into_iter().enumerate() {
            let watched = socket.try_clone()?;
            poll.add(&watched, Token::FrontEnd(place).encode(), Watch::Readable)?;
            let service = Service::new(device, place, poll.clone(), notices.clone())?;
            let service = Arc::new(Mutex::new(service));
            let messages = BackendReqHandler::from_stream(socket, service.clone());
            endpoints.push(Endpoint { service, messages, watched: Some(watched), reached: false });
        }
        let work = Work { poll, endpoints, notices };
        let thread = Builder::new()
            .name(format!("husk-{group}"))
            .stack_size(STACK_LENGTH)
            .spawn(move || work.run())?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It fails only where the count is full, so that the thread is told anyway.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic ends the process before it ends a thread");
        }
    }
}

/// One device and the connection to its front end.
struct Endpoint {
    service: Arc<Mutex<Service>>,
    messages: BackendReqHandler<Mutex<Service>>,
    /// The connection, while it lasts.
    watched: Option<UnixStream>,
    reached: bool,
}

struct Work {
    poll: Arc<Poll>,
    endpoints: Vec<Endpoint>,
    notices: Notices,
}

impl Work {
    fn run(mut self) {
        if let Err(error) = seccomp::install(ThreadKind::Device) {
            return self.notices.send(Notice::Failed(error.to_string()));
        }
        let mut events = Vec::new();
        loop {
            let more = self.endpoints.iter().any(|endpoint| endpoint.service().has_more());
            let timeout = more.then_some(Duration::ZERO);
            if let Err(error) = self.poll.wait(&mut events, timeout) {
                return self.notices.send(Notice::Failed(format!("cannot wait: {error}")));
            }
            for &(token, readiness) in &events {
                match Token::decode(token) {
                    Token::Stop => return,
                    token => self.handle(token, readiness),
                }
            }
            for endpoint in &self.endpoints {
                let mut service = endpoint.service();
                if service.has_more() {
                    service.run_again();
                }
            }
        }
    }

    fn handle(&mut self, token: Token, readiness: Readiness) {
        let (Token::Device(place, _) | Token::FrontEnd(place) | Token::Kick(place, _)) = token
        else {
            return;
        };
        let Some(endpoint) = self.endpoints.get_mut(place) else { return };
        match token {
            Token::Device(_, number) => endpoint.service().handle_event(number, readiness),
            Token::Kick(_, number) => endpoint.service().kick(number),
            Token::FrontEnd(_) | Token::Stop => endpoint.take_message(&self.poll, &self.notices),
        }
    }
}

impl Endpoint {
    /// One thread only ever locks it, so the lock is free and no panic can have left it poisoned.
    fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_message(&mut self, poll: &Poll, notices: &Notices) {
        match self.messages.handle_request() {
            Ok(()) => {
                if !std::mem::replace(&mut self.reached, true) {
                    notices.send(Notice::Reached);
                }
            }
            Err(error) => {
                if let Some(watched) = self.watched.take() {
                    // It is closed next, which removes it as well.
                    let _ = poll.remove(&watched);
                }
                self.service().disconnect();
                if !is_end_of_connection(&error) {
                    notices.send(Notice::Failed(format!("a device lost its front end: {error}")));
                }
            }
        }
    }
}

/// The front end has ended, which the main thread learns by itself.
fn is_end_of_connection(error: &VhostUserError) -> bool {
    matches!(
        error,
        VhostUserError::Disconnected
            | VhostUserError::PartialMessage
            | VhostUserError::SocketBroken(_)
    )
}
