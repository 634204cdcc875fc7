//! The compressed blob as a stream that hashes and counts what passes.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::decode::DecodeFailure;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::manifest::Descriptor;

/// The stream. A channel that closes before the descriptor's last byte is an error, not an end.
pub(super) struct Source {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
    expected: Descriptor,
    received: u64,
    hasher: Sha256,
}

impl Source {
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>, expected: &Descriptor) -> Self {
        let expected = expected.clone();
        Self { chunks, current: Bytes::new(), expected, received: 0, hasher: Sha256::new() }
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes as they came; none at the end.
    pub(super) fn next_chunk(&mut self) -> io::Result<Bytes> {
        self.fill_buf()?;
        Ok(std::mem::take(&mut self.current))
    }

    /// Reads to the end and proves length and digest.
    pub(super) fn finish(mut self) -> Result<(), DecodeFailure> {
        loop {
            match self.next_chunk() {
                Ok(chunk) if chunk.is_empty() => break,
                Ok(_) => {}
                Err(_) => return Err(DecodeFailure::SourceEnded),
            }
        }
        let found = Digest::from(self.hasher);
        if found != self.expected.digest {
            return Err(DecodeFailure::Content(
                ErrorKind::Corrupt,
                format!("wrong digest: the registry sent {found}"),
            ));
        }
        Ok(())
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && self.received < self.expected.size {
            let chunk = self.chunks.blocking_recv().ok_or(io::ErrorKind::ConnectionAborted)?;
            self.received += u64::try_from(chunk.len()).expect("a length fits");
            if self.received > self.expected.size {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.hasher.update(&chunk);
            self.current = chunk;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count);
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = buffer.len().min(available.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
