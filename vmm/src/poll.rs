//! Waiting for many descriptors at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use husk_devices::virtio::Readiness;

/// Events of one wait.
const BATCH: usize = 64;

/// A set of watched descriptors, each under a token.
#[derive(Debug)]
pub(crate) struct Poll(OwnedFd);

/// How a descriptor is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Watch {
    /// As long as it is readable.
    Readable,
    /// Each time that it becomes readable or writable.
    Edges,
}

impl Poll {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Watches `fd` until it is closed or removed.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64, watch: Watch) -> io::Result<()> {
        let flags = match watch {
            Watch::Readable => EventFlags::IN,
            Watch::Edges => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        };
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token), flags)?)
    }

    /// Watches `fd` no more.
    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits for events, at most as long as `timeout` says, and fills `events` with them.
    pub(crate) fn wait(
        &self,
        events: &mut Vec<(u64, Readiness)>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        let timeout = timeout.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; BATCH];
        let ready = match epoll::wait(&self.0, &mut buffer, timeout.as_ref()) {
            Ok((ready, _)) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let gone = EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP;
        events.extend(ready.iter().map(|event| {
            let flags = event.flags;
            let readiness = Readiness {
                readable: flags.intersects(EventFlags::IN | gone),
                writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
            };
            (event.data.u64(), readiness)
        }));
        Ok(())
    }
}
