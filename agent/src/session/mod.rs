//! Connections from the host, each in the role that its first frame gave it.

pub mod cursor;
pub mod frame_reader;
pub mod input;
pub mod outgoing;
pub mod output;

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, read};

use frame_reader::FrameReader;
use input::InputSession;
use outgoing::Outgoing;
use output::OutputSession;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
    /// Frames on their way to the host.
    pub outgoing: Outgoing,
    /// What it is for.
    pub role: Role,
}

/// What a connection is for.
#[derive(Debug)]
pub enum Role {
    /// Its first frame has not come yet.
    Opening(FrameReader),
    /// Requests in, replies out.
    Control {
        /// Collects the next request.
        reader: FrameReader,
        /// IDs of the requests under way.
        pending: HashSet<u64>,
    },
    /// Output of a process.
    Output(OutputSession),
    /// Input of a process.
    Input(InputSession),
    /// To be closed as soon as its last frame has been sent.
    Closing,
}

impl Connection {
    /// A connection on which nothing has happened yet.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, outgoing: Outgoing::default(), role: Role::Opening(FrameReader::default()) }
    }

    /// Takes the next frame, if it is there; `None` too in roles that have no more frames.
    ///
    /// # Errors
    /// As [`FrameReader::next`].
    pub fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        match &mut self.role {
            Role::Opening(reader) | Role::Control { reader, .. } => {
                reader.next(|buffer| read_some(self.fd.as_fd(), buffer))
            }
            Role::Output(_) | Role::Input(_) | Role::Closing => Ok(None),
        }
    }

    /// Sends what is on its way, as far as the host has room.
    ///
    /// # Errors
    /// The kernel's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.outgoing.flush(&self.fd)
    }

    /// The role and the descriptor, borrowed at once.
    pub fn role_and_fd(&mut self) -> (&mut Role, BorrowedFd<'_>) {
        (&mut self.role, self.fd.as_fd())
    }

    /// Gives up the descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads, whatever signals come in between.
fn read_some(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match read(fd, &mut *buffer) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
