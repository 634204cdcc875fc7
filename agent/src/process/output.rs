//! An output stream of a process: read into a buffer, from which connections send it.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, readv};

use super::buffer::OutputBuffer;

/// Reads in one turn at most, so that one busy process does not keep others waiting.
const READS_MAX: usize = 8;

/// One output stream.
#[derive(Debug)]
pub struct OutputStream {
    /// What the host has not acknowledged.
    pub buffer: OutputBuffer,
    /// The connection that sends it, if there is one.
    pub connection: Option<u32>,
    source: Option<OwnedFd>,
    /// The process has ended: what can be read now is all there will ever be.
    draining: bool,
}

impl OutputStream {
    /// A stream read from `source`, which does not block.
    pub fn new(source: OwnedFd) -> Self {
        Self {
            buffer: OutputBuffer::default(),
            connection: None,
            source: Some(source),
            draining: false,
        }
    }

    /// True once nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.source.is_none()
    }

    /// What to watch for readability: nothing while the buffer is full.
    pub fn wants_read(&self) -> Option<BorrowedFd<'_>> {
        if self.buffer.is_full() { None } else { self.source() }
    }

    /// The descriptor that is read, until the end of the stream.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(AsFd::as_fd)
    }

    /// Reads what there is, as far as there is room.
    pub fn fill(&mut self) {
        for _ in 0..READS_MAX {
            let Some(source) = &self.source else { return };
            if self.buffer.is_full() {
                return;
            }
            let [first, second] = self.buffer.spare();
            match readv(source, &mut [IoSliceMut::new(first), IoSliceMut::new(second)]) {
                Ok(0) => self.source = None,
                Ok(count) => self.buffer.commit(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !self.draining => return,
                // A terminal whose last user has gone reads as EIO.
                Err(_) => self.source = None,
            }
        }
    }

    /// Takes it that the process has ended: whoever still holds the other end, the stream ends
    /// with what can be read without waiting.
    pub fn drain(&mut self) {
        self.draining = true;
        self.resume();
    }

    /// Goes on with a drain that a full buffer has stopped.
    pub fn resume(&mut self) {
        while self.draining && self.source.is_some() && !self.buffer.is_full() {
            self.fill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use husk_protocol::limits::UNACKNOWLEDGED_MAX;
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::io::write;
    use rustix::pipe::{fcntl_setpipe_size, pipe};

    fn stream() -> (OutputStream, OwnedFd) {
        let (reader, writer) = pipe().unwrap();
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        fcntl_setpipe_size(&reader, 1 << 20).unwrap();
        (OutputStream::new(reader), writer)
    }

    #[test]
    fn a_stream_ends_when_the_last_writer_closes() {
        let (mut output, writer) = stream();
        write(&writer, b"hello").unwrap();
        output.fill();
        assert!(!output.has_ended());
        drop(writer);
        output.fill();
        assert!(output.has_ended());
        assert_eq!(output.buffer.produced(), 5);
    }

    #[test]
    fn after_the_process_a_pipe_held_open_ends_too() {
        let (mut output, writer) = stream();
        write(&writer, b"rest").unwrap();
        output.drain();
        assert!(output.has_ended());
        assert_eq!(output.buffer.produced(), 4);
    }

    #[test]
    fn a_drain_waits_for_room() {
        let (mut output, writer) = stream();
        write(&writer, &vec![1; UNACKNOWLEDGED_MAX]).unwrap();
        output.fill();
        assert!(output.wants_read().is_none());
        write(&writer, b"more").unwrap();
        output.drain();
        assert!(!output.has_ended());
        output.buffer.acknowledge(10).unwrap();
        output.resume();
        assert!(output.has_ended());
        assert_eq!(output.buffer.produced(), UNACKNOWLEDGED_MAX as u64 + 4);
    }
}
