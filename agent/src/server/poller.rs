//! The one place where the agent waits: epoll, with a typed name for each thing watched.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use husk_protocol::Stream;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
pub use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

/// Events taken in one turn.
const EVENTS_MAX: usize = 64;

/// What something ready is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// The listening socket.
    Listener,
    /// The end of a child.
    Children,
    /// A connection.
    Connection(u32),
    /// The channel to a process that is not running yet.
    Channel(u32),
    /// A process's output.
    Output(u32, Stream),
    /// A process's input.
    Input(u32),
}

/// Watches descriptors, each under a [`Source`].
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    /// What is watched for what, so that nothing is asked of the kernel twice.
    watched: HashMap<Source, EventFlags>,
}

impl Poller {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, watched: HashMap::new() })
    }

    /// Watches `fd` for `wanted`, and for nothing else; for nothing at all if that is empty.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch(&mut self, source: Source, fd: impl AsFd, wanted: EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(encode(source));
        match (self.watched.get(&source), wanted.is_empty()) {
            (Some(current), false) if *current == wanted => return Ok(()),
            (None, true) => return Ok(()),
            (Some(_), false) => epoll::modify(&self.epoll, fd, data, wanted)?,
            (None, false) => epoll::add(&self.epoll, fd, data, wanted)?,
            (Some(_), true) => epoll::delete(&self.epoll, fd)?,
        }
        if wanted.is_empty() {
            self.watched.remove(&source);
        } else {
            self.watched.insert(source, wanted);
        }
        Ok(())
    }

    /// Forgets a source whose descriptor has been closed.
    pub fn forget(&mut self, source: Source) {
        self.watched.remove(&source);
    }

    /// Waits until something is ready. Returns all that is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self) -> io::Result<Vec<Source>> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().filter_map(|event| decode({ event.data }.u64())).collect())
    }
}

/// A source as the kernel keeps it: the kind, the stream, the number.
fn encode(source: Source) -> u64 {
    let (kind, stream, number) = match source {
        Source::Listener => (0, 0, 0),
        Source::Children => (1, 0, 0),
        Source::Connection(number) => (2, 0, number),
        Source::Channel(number) => (3, 0, number),
        Source::Output(number, Stream::Stdout) => (4, 1, number),
        Source::Output(number, Stream::Stderr) => (4, 2, number),
        Source::Output(number, Stream::Stdin) | Source::Input(number) => (5, 0, number),
    };
    kind << 40 | stream << 32 | u64::from(number)
}

fn decode(data: u64) -> Option<Source> {
    let number = u32::try_from(data & u64::from(u32::MAX)).expect("it is masked to 32 bits");
    Some(match (data >> 40, data >> 32 & 0xff) {
        (0, _) => Source::Listener,
        (1, _) => Source::Children,
        (2, _) => Source::Connection(number),
        (3, _) => Source::Channel(number),
        (4, 1) => Source::Output(number, Stream::Stdout),
        (4, 2) => Source::Output(number, Stream::Stderr),
        (5, _) => Source::Input(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_comes_back_as_itself() {
        let sources = [
            Source::Listener,
            Source::Children,
            Source::Connection(u32::MAX),
            Source::Channel(7),
            Source::Output(u32::MAX, Stream::Stdout),
            Source::Output(0, Stream::Stderr),
            Source::Input(3),
        ];
        for source in sources {
            assert_eq!(decode(encode(source)), Some(source));
        }
    }

    #[test]
    fn what_is_not_wanted_is_not_told() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut poller = Poller::new().unwrap();
        poller.watch(Source::Input(1), &writer, EventFlags::OUT).unwrap();
        assert_eq!(poller.wait().unwrap(), [Source::Input(1)]);
        poller.watch(Source::Input(1), &writer, EventFlags::empty()).unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        poller.watch(Source::Output(1, Stream::Stdout), &reader, EventFlags::IN).unwrap();
        assert_eq!(poller.wait().unwrap(), [Source::Output(1, Stream::Stdout)]);
    }
}
