//! Reads a stream through one buffer that headers and content are taken from.

use std::io::{self, Read};

/// Bytes of a tar block.
pub(crate) const TAR_BLOCK: usize = 512;
/// Bytes asked of the stream at once.
const BUFFER_LEN: usize = 256 << 10;

/// Why a stream gave no more bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("failed to read the stream")]
    Read(#[source] io::Error),
    #[error("the stream ends too early")]
    Truncated,
}

/// A stream and what was read ahead of it.
pub(super) struct Input<R> {
    stream: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes handed out.
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: vec![0; BUFFER_LEN].into(), start: 0, end: 0, offset: 0 }
    }

    /// Bytes handed out so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// At least one byte and at most `max`; none only at the end of the stream.
    pub(super) fn take(&mut self, max: u64) -> Result<&[u8], InputError> {
        if self.start == self.end {
            self.start = 0;
            self.end = loop {
                match self.stream.read(&mut self.buffer) {
                    Ok(length) => break length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.end = 0;
                        return Err(InputError::Read(error));
                    }
                }
            };
        }
        let held = self.end - self.start;
        let length = usize::try_from(max).map_or(held, |max| max.min(held));
        let start = self.start;
        self.start += length;
        self.offset += length as u64;
        Ok(&self.buffer[start..start + length])
    }

    /// The next block; `None` if the stream ends here.
    pub(super) fn block(&mut self) -> Result<Option<[u8; TAR_BLOCK]>, InputError> {
        let mut block = [0; TAR_BLOCK];
        let mut filled = 0;
        while filled < TAR_BLOCK {
            let bytes = self.take((TAR_BLOCK - filled) as u64)?;
            match (bytes.len(), filled) {
                (0, 0) => return Ok(None),
                (0, _) => return Err(InputError::Truncated),
                (length, _) => {
                    block[filled..filled + length].copy_from_slice(bytes);
                    filled += length;
                }
            }
        }
        Ok(Some(block))
    }

    /// Passes over `length` bytes.
    pub(super) fn skip(&mut self, mut length: u64) -> Result<(), InputError> {
        while length > 0 {
            let taken = self.take(length)?.len() as u64;
            if taken == 0 {
                return Err(InputError::Truncated);
            }
            length -= taken;
        }
        Ok(())
    }

    /// The next `length` bytes, which the caller has bounded.
    pub(super) fn read(&mut self, length: usize) -> Result<Vec<u8>, InputError> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let part = self.take((length - bytes.len()) as u64)?;
            if part.is_empty() {
                return Err(InputError::Truncated);
            }
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }
}
