//! Edges as event descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use husk_devices::Interrupt;
use rustix::event::{EventfdFlags, eventfd};

/// Both ends of a line that carries edges: into another thread, or, once KVM knows its
/// descriptor, into or out of the guest.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<OwnedFd>);

impl Line {
    /// A line on which nothing has happened.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Takes all edges that came since the last time; whether there were any.
    pub(crate) fn take(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl Interrupt for Line {
    fn raise(&self) {
        // It fails only where the count is full, so that the other end hears of it anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
