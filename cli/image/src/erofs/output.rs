//! Appending to an image file through one buffer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::disk::BLOCK;

/// Bytes gathered before a write: large enough that its cost is the copy, small enough to stay
/// in the cache on its way.
const BUFFER_LEN: usize = 512 << 10;

/// Writes a file from front to back, whatever the file's own position.
///
/// Gaps are not written, so the file must start out empty for them to read as zeros.
#[derive(Debug)]
pub struct Appender<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    flushed: u64,
}

impl<'a> Appender<'a> {
    /// Empties `file` and starts at offset 0.
    ///
    /// # Errors
    /// If the file cannot be truncated.
    pub fn new(file: &'a File) -> io::Result<Self> {
        file.set_len(0)?;
        Ok(Self { file, buffer: Vec::with_capacity(BUFFER_LEN), flushed: 0 })
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_LEN {
            self.flush()?;
            if bytes.len() >= BUFFER_LEN {
                self.file.write_all_at(bytes, self.flushed)?;
                self.flushed += bytes.len() as u64;
                return Ok(());
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Leaves a gap of zeros up to `position`, which must not lie behind.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn skip_to(&mut self, position: u64) -> io::Result<()> {
        let gap = position
            .checked_sub(self.position())
            .ok_or_else(|| io::Error::other("image parts overlap"))?;
        match usize::try_from(gap) {
            Ok(gap) if self.buffer.len() + gap <= BUFFER_LEN => {
                self.buffer.resize(self.buffer.len() + gap, 0);
            }
            _ => {
                self.flush()?;
                self.flushed = position;
            }
        }
        Ok(())
    }

    /// Skips to the next multiple of the block size.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn skip_to_block(&mut self) -> io::Result<()> {
        self.skip_to(self.position().next_multiple_of(BLOCK))
    }

    /// Writes what is buffered, sets the file's size to the position, and puts `start` over the
    /// file's first bytes.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self, start: &[u8]) -> io::Result<u64> {
        self.flush()?;
        self.file.set_len(self.flushed)?;
        self.file.write_all_at(start, 0)?;
        Ok(self.flushed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.flushed)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
