//! Clients that wait for a container's end or removal.

use std::sync::Mutex;

use husk_api::models::{ContainerWaitExitError, ContainerWaitResponse};
use tokio::sync::oneshot;

use crate::store::Status;

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    exit: Mutex<Vec<oneshot::Sender<ContainerWaitResponse>>>,
    removal: Mutex<Vec<oneshot::Sender<ContainerWaitResponse>>>,
}

impl Waiters {
    /// Registers a wait for the next end.
    pub(crate) fn for_exit(&self) -> oneshot::Receiver<ContainerWaitResponse> {
        add(&self.exit)
    }

    /// Registers a wait for the removal.
    pub(crate) fn for_removal(&self) -> oneshot::Receiver<ContainerWaitResponse> {
        add(&self.removal)
    }

    /// Tells of an end.
    pub(crate) fn exited(&self, status: &Status) {
        tell(&self.exit, status);
    }

    /// Tells of the removal; nothing else will ever end.
    pub(crate) fn removed(&self, status: &Status) {
        tell(&self.exit, status);
        tell(&self.removal, status);
    }
}

/// The answer to a wait.
pub(crate) fn response(status: &Status) -> ContainerWaitResponse {
    let message = Some(status.error.clone()).filter(|error| !error.is_empty());
    ContainerWaitResponse {
        status_code: status.exit_code,
        error: message.map(|message| ContainerWaitExitError { message: Some(message) }),
    }
}

type Waiting = Mutex<Vec<oneshot::Sender<ContainerWaitResponse>>>;

fn add(waiting: &Waiting) -> oneshot::Receiver<ContainerWaitResponse> {
    let (sender, receiver) = oneshot::channel();
    let mut waiting = waiting.lock().expect("nobody panics with it");
    waiting.retain(|sender| !sender.is_closed());
    waiting.push(sender);
    receiver
}

fn tell(waiting: &Waiting, status: &Status) {
    for sender in waiting.lock().expect("nobody panics with it").drain(..) {
        // Whoever waited may be gone.
        let _ = sender.send(response(status));
    }
}
