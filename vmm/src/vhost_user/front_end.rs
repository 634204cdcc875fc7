//! A device that the guest reaches through another program's transport.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use husk_devices::virtio::{Device, Ran, Readiness};
use vhost::vhost_user::message::VhostUserVirtioFeatures;
use vhost::vhost_user::{BackendReqHandler, Error as VhostUserError};

use super::service::Service;
use crate::device_thread::{Endpoint, Notice, Notices, Token};
use crate::poll::{Poll, Watch};

/// One device and the connection to its front end.
pub(crate) struct FrontEnd {
    service: Arc<Mutex<Service>>,
    messages: BackendReqHandler<Mutex<Service>>,
    /// The connection, while it lasts.
    watched: Option<UnixStream>,
    reached: bool,
    poll: Arc<Poll>,
}

impl FrontEnd {
    /// A device in `place` of its group, whose loop is `poll`, served to the front end at the other
    /// end of `socket`.
    pub(crate) fn new(
        device: Box<dyn Device>,
        place: usize,
        poll: Arc<Poll>,
        socket: UnixStream,
    ) -> io::Result<Self> {
        let watched = socket.try_clone()?;
        poll.add(&watched, Token::Transport(place).encode(), Watch::Readable)?;
        let service = Service::new(device, place, poll.clone())?;
        let service = Arc::new(Mutex::new(service));
        let messages = BackendReqHandler::from_stream(socket, service.clone());
        Ok(Self { service, messages, watched: Some(watched), reached: false, poll })
    }

    /// One thread only ever locks it, so the lock is free and no panic can have left it poisoned.
    fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint for FrontEnd {
    fn kick(&mut self, queue: u32) -> Ran {
        self.service().kick(queue)
    }

    fn handle_event(&mut self, token: u32, readiness: Readiness) -> Ran {
        self.service().handle_event(token, readiness)
    }

    fn handle_transport(&mut self, notices: &Notices) {
        match self.messages.handle_request() {
            Ok(()) => {
                if !std::mem::replace(&mut self.reached, true) {
                    notices.send(Notice::Reached);
                }
            }
            // QEMU enables the rings of a network device before it says which features it uses:
            // too early for the protocol, and never again.
            Err(VhostUserError::InactiveFeature(VhostUserVirtioFeatures::PROTOCOL_FEATURES)) => {
                self.service().enable();
            }
            Err(error) => {
                if let Some(watched) = self.watched.take() {
                    // It is closed next, which removes it as well.
                    let _ = self.poll.remove(&watched);
                }
                self.service().disconnect();
                if !is_end_of_connection(&error) {
                    notices.send(Notice::Failed(format!("a device lost its front end: {error}")));
                }
            }
        }
    }

    fn has_more(&self) -> bool {
        self.service().has_more()
    }

    fn run_again(&mut self) -> Ran {
        self.service().run_again()
    }

    fn listen(&mut self, queue: u32, listen: bool) {
        self.service().listen(queue, listen);
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
