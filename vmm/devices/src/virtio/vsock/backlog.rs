//! Bytes from the guest that the host's socket did not take yet.

use std::collections::VecDeque;
use std::io;

use super::Stream;
use crate::virtio::Buffers;

/// Bytes that move at once.
const PIECE: usize = 4096;

/// A queue of bytes; its owner bounds it by credit.
#[derive(Debug, Default)]
pub(super) struct Backlog(VecDeque<u8>);

impl Backlog {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none do.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies `data` out of guest memory.
    pub(super) fn push(&mut self, mut data: Buffers<'_>) {
        let mut piece = [0; PIECE];
        while !data.is_empty() {
            let count = data.len().min(PIECE);
            let Ok(front) = data.take(count) else { break };
            front.copy_to(&mut piece);
            self.0.extend(&piece[..count]);
        }
    }

    /// Writes what `stream` takes, until it takes no more or all is written; returns the bytes.
    ///
    /// Its memory goes back when it has run empty: most connections never need it again.
    pub(super) fn flush(&mut self, stream: &mut impl Stream) -> (usize, io::Result<()>) {
        let mut written = 0;
        let outcome = loop {
            if self.0.is_empty() {
                self.0 = VecDeque::new();
                break Ok(());
            }
            match stream.write(self.0.as_slices().0) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.0.drain(..count);
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        (written, outcome)
    }

    /// Throws everything away and returns how much that was.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }
}
