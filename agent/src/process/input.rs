//! Standard input of a process: bytes from the host wait here until the process reads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, write};

/// Standard input, as the agent writes it.
#[derive(Debug)]
pub struct InputStream {
    /// The connection that feeds it, if there is one.
    pub connection: Option<u32>,
    /// The connection that takes over once what has come on the other one has been taken.
    pub successor: Option<u32>,
    /// None once it is closed.
    sink: Option<OwnedFd>,
    /// Taken from the host, not yet by the process; at most what one turn reads.
    waiting: Vec<u8>,
    written: usize,
    ending: bool,
}

impl InputStream {
    /// A stream written to `sink`, which does not block.
    pub fn new(sink: OwnedFd) -> Self {
        Self {
            connection: None,
            successor: None,
            sink: Some(sink),
            waiting: Vec::new(),
            written: 0,
            ending: false,
        }
    }

    /// True once nothing can be written any more.
    pub fn is_closed(&self) -> bool {
        self.sink.is_none()
    }

    /// True if more can be taken from the host.
    pub fn has_room(&self) -> bool {
        self.sink.is_some() && self.waiting.is_empty() && !self.ending
    }

    /// What to watch for writability: nothing unless bytes wait.
    pub fn wants_write(&self) -> Option<BorrowedFd<'_>> {
        if self.waiting.is_empty() { None } else { self.sink() }
    }

    /// The descriptor that is written, until it is closed.
    pub fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.sink.as_ref().map(AsFd::as_fd)
    }

    /// Takes bytes from the host.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Takes it that no more will come: closes once all is written.
    pub fn end(&mut self) {
        self.ending = true;
        self.flush();
    }

    /// Closes at once, whatever waits.
    pub fn close(&mut self) {
        self.sink = None;
        self.waiting = Vec::new();
        self.written = 0;
    }

    /// Writes what waits, as far as the process has room.
    pub fn flush(&mut self) {
        while self.written < self.waiting.len() {
            let Some(sink) = &self.sink else { return };
            match write(sink, &self.waiting[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The process has closed its end; nobody will ever read the rest.
                Err(_) => return self.close(),
            }
        }
        self.waiting.clear();
        self.written = 0;
        if self.ending {
            self.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pipe::pipe;

    fn stream() -> (InputStream, OwnedFd) {
        let (reader, writer) = pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        (InputStream::new(writer), reader)
    }

    #[test]
    fn bytes_wait_while_the_pipe_is_full_and_the_end_comes_last() {
        let (mut input, reader) = stream();
        let bytes = vec![5; 100_000];
        input.push(&bytes);
        input.flush();
        input.end();
        assert!(!input.has_room() && input.wants_write().is_some());
        let mut read = Vec::new();
        let mut part = [0; 50_000];
        loop {
            match rustix::io::read(&reader, &mut part).unwrap() {
                0 => break,
                count => read.extend_from_slice(&part[..count]),
            }
            input.flush();
        }
        assert_eq!(read, bytes);
        assert!(input.is_closed());
    }

    #[test]
    fn a_reader_that_has_gone_closes_it() {
        let (mut input, reader) = stream();
        drop(reader);
        input.push(b"x");
        input.flush();
        assert!(input.is_closed() && !input.has_room());
    }
}
