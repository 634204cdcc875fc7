//! Frames on their way to the host.

use std::io;
use std::os::fd::AsFd;

use husk_protocol::frame::{FrameError, encode};
use rustix::io::{Errno, write};

/// Bytes that may wait before no more requests are read.
const WAITING_MAX: usize = 256 << 10;

/// Encoded frames, the first of them perhaps sent in part.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    /// Adds a frame.
    ///
    /// # Errors
    /// [`FrameError`] if the message is too long.
    pub fn push<T: serde::Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        self.bytes.extend(encode(message)?);
        Ok(())
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// True if the host reads so slowly that it should be asked less.
    pub fn is_congested(&self) -> bool {
        self.bytes.len() - self.sent > WAITING_MAX
    }

    /// Sends what the other side has room for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn flush(&mut self, fd: impl AsFd) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match write(&fd, &self.bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(())
    }
}
