//! What the device threads tell the main thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};

/// Something that the main thread wants to know.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Notice {
    /// The front end has spoken to another device for the first time.
    Reached,
    /// A driver in the guest has set its device up: guest code runs.
    Activated,
    /// A device cannot go on.
    Failed(String),
}

/// The sending side.
#[derive(Clone, Debug)]
pub(crate) struct Notices {
    sender: Sender<Notice>,
    bell: Arc<OwnedFd>,
}

/// The receiving side, readable while something is there.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: Receiver<Notice>,
    bell: Arc<OwnedFd>,
}

impl Notices {
    /// Both sides.
    pub(crate) fn channel() -> io::Result<(Self, Inbox)> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (sender, receiver) = channel();
        Ok((Self { sender, bell: bell.clone() }, Inbox { receiver, bell }))
    }

    /// Tells, unless nobody listens any more.
    pub(crate) fn send(&self, notice: Notice) {
        if self.sender.send(notice).is_ok() {
            // It fails only at 2^64 notices unread.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }
}

impl Inbox {
    /// All that is there now.
    pub(crate) fn drain(&self) -> Vec<Notice> {
        // Nothing to read means nothing has come since the last time.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.receiver.try_iter().collect()
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
