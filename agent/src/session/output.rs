//! A connection that carries an output stream: chunks out, acknowledgements in.

use std::io;
use std::os::fd::BorrowedFd;

use husk_protocol::Stream;
use rustix::io::{Errno, writev};

use super::cursor::ChunkCursor;
use super::read_some;
use crate::process::output::OutputStream;

/// Bytes of an acknowledgement.
const ACKNOWLEDGEMENT_LEN: usize = 8;

/// Acknowledgements taken in one read.
const ACKNOWLEDGEMENTS_MAX: usize = 64;

/// Chunks sent in one turn at most, so that one busy stream does not keep others waiting.
const CHUNKS_MAX: usize = 16;

/// The sending side of one connection.
#[derive(Debug)]
pub struct OutputSession {
    /// The process's key.
    pub process: u32,
    /// Which of its streams.
    pub stream: Stream,
    cursor: ChunkCursor,
    /// The first bytes of an acknowledgement of which the rest has not come yet.
    partial: Vec<u8>,
}

impl OutputSession {
    /// Sends `stream` of the process `process` from byte `offset` on.
    pub fn new(process: u32, stream: Stream, offset: u64) -> Self {
        Self { process, stream, cursor: ChunkCursor::new(offset), partial: Vec::new() }
    }

    /// True if there is something to send.
    pub fn has_more(&self, stream: &OutputStream) -> bool {
        self.cursor.has_more(&stream.buffer, stream.has_ended())
    }

    /// Sends what the host has room for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&mut self, fd: BorrowedFd<'_>, stream: &OutputStream) -> io::Result<()> {
        for _ in 0..CHUNKS_MAX {
            let slices = self
                .cursor
                .slices(&stream.buffer, stream.has_ended())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let Some(slices) = slices else { return Ok(()) };
            match writev(fd, &slices) {
                Ok(count) => self.cursor.advance(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes acknowledgements.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the host has gone, [`io::ErrorKind::InvalidData`] if it
    /// acknowledges what was not sent, or less than before.
    pub fn receive(&mut self, fd: BorrowedFd<'_>, stream: &mut OutputStream) -> io::Result<()> {
        let mut buffer = [0; ACKNOWLEDGEMENT_LEN * ACKNOWLEDGEMENTS_MAX];
        match read_some(fd, &mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.partial.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let complete = self.partial.len() / ACKNOWLEDGEMENT_LEN * ACKNOWLEDGEMENT_LEN;
        // Each tells the total, so that the last one says it all.
        let Some(last) = self.partial[..complete].last_chunk::<ACKNOWLEDGEMENT_LEN>() else {
            return Ok(());
        };
        let total = u64::from_le_bytes(*last);
        self.partial.drain(..complete);
        if total > self.cursor.sent() {
            let sent = self.cursor.sent();
            let message = format!("{total} bytes acknowledged, but only {sent} sent");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        stream
            .buffer
            .acknowledge(total)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if stream.has_ended() {
            stream.buffer.release();
        }
        Ok(())
    }
}
