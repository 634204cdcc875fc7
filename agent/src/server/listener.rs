//! Where the host connects.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::console;
use crate::sys::vsock;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Bytes that the host may have in flight on a connection: a few chunks of standard input.
const RECEIVE_BUFFER: u64 = 512 << 10;

/// A listening socket that does not block, and who may connect to it.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    admits: fn(BorrowedFd<'_>) -> bool,
}

impl Listener {
    /// Listens on a vsock port, for the host alone: containers can reach the port as well.
    ///
    /// # Errors
    /// The kernel's.
    pub fn vsock(port: u32) -> io::Result<Self> {
        let fd = vsock::listen(port, BACKLOG)?;
        // Connections inherit it; without it they are slower, not wrong.
        if let Err(error) = vsock::set_buffer_size(&fd, RECEIVE_BUFFER) {
            console::error(format_args!("failed to set the vsock buffer size: {error}"));
        }
        Ok(Self { fd, admits: vsock::peer_is_host })
    }

    /// Takes a listening socket, and a test that a peer must pass.
    pub fn new(fd: OwnedFd, admits: fn(BorrowedFd<'_>) -> bool) -> Self {
        Self { fd, admits }
    }

    /// The next connection of a peer that may connect; `None` if there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        loop {
            match accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(connection) if (self.admits)(connection.as_fd()) => return Ok(Some(connection)),
                // Dropped, and closed by that: somebody in the guest.
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
