//! Tar bytes in chunks, from one producer to two consumers, with the buffers used again.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender};

use bytes::{Bytes, BytesMut};

use super::decode::DecodeFailure;

/// Bytes of a chunk: small enough for the second-level cache.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Chunks waiting for each consumer.
pub(super) const CHUNKS_QUEUED: usize = 4;
/// Buffers in the round: those queued twice over, and one in each thread's hands.
const BUFFERS: usize = 2 * CHUNKS_QUEUED + 3;

/// The producer's end. The consumer that converts is told the end by an empty chunk, so that a
/// producer that stopped early is not taken for one that finished.
pub(super) struct Fanout {
    to_hash: SyncSender<Bytes>,
    to_convert: SyncSender<Bytes>,
    lent: VecDeque<Bytes>,
}

impl Fanout {
    pub(super) fn new(to_hash: SyncSender<Bytes>, to_convert: SyncSender<Bytes>) -> Self {
        Self { to_hash, to_convert, lent: VecDeque::with_capacity(BUFFERS) }
    }

    /// A buffer of [`CHUNK_BYTES`], the oldest one if both consumers are through with it.
    pub(super) fn buffer(&mut self) -> BytesMut {
        if self.lent.len() >= BUFFERS
            && let Some(oldest) = self.lent.pop_front()
            && let Ok(buffer) = oldest.try_into_mut()
        {
            return buffer;
        }
        BytesMut::zeroed(CHUNK_BYTES)
    }

    /// Sends the first `length` bytes of a buffer.
    pub(super) fn send(&mut self, buffer: BytesMut, length: usize) -> Result<(), DecodeFailure> {
        let whole = buffer.freeze();
        let chunk = whole.slice(..length);
        self.lent.push_back(whole);
        self.send_bytes(chunk)
    }

    /// Sends bytes as they are; no bytes are nothing.
    pub(super) fn send_bytes(&mut self, chunk: Bytes) -> Result<(), DecodeFailure> {
        if chunk.is_empty() {
            return Ok(());
        }
        let refused = |_| DecodeFailure::Refused;
        self.to_hash.send(chunk.clone()).map_err(refused)?;
        self.to_convert.send(chunk).map_err(refused)
    }

    /// Tells the end.
    pub(super) fn end(&mut self) -> Result<(), DecodeFailure> {
        self.to_convert.send(Bytes::new()).map_err(|_| DecodeFailure::Refused)
    }
}

/// The converting consumer's end.
pub(super) struct TarReader {
    chunks: Receiver<Bytes>,
    current: Bytes,
    ended: bool,
}

impl TarReader {
    pub(super) fn new(chunks: Receiver<Bytes>) -> Self {
        Self { chunks, current: Bytes::new(), ended: false }
    }
}

impl Read for TarReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.ended {
            self.current = self.chunks.recv().map_err(|_| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the layer ended early")
            })?;
            self.ended = self.current.is_empty();
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
