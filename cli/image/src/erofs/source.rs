//! What images are read from.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a window: a directory's inodes lie side by side, so one read serves hundreds.
const WINDOW_LEN: usize = 128 << 10;

/// Bytes that can be read at any offset.
pub trait Source {
    /// How many there are.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If there are not as many, or they cannot be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Source for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

/// A source that keeps the last window of another in memory, for many small reads in order.
#[derive(Debug)]
pub struct Window<S> {
    source: S,
    size: u64,
    /// Offset and bytes of the window.
    window: RefCell<(u64, Vec<u8>)>,
}

impl<S: Source> Window<S> {
    /// Puts a window before `source`, whose size must not change.
    ///
    /// # Errors
    /// If the size cannot be found out.
    pub fn new(source: S) -> io::Result<Self> {
        let size = source.size()?;
        Ok(Self { source, size, window: RefCell::new((0, Vec::new())) })
    }
}

impl<S: Source> Source for Window<S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if buffer.len() > WINDOW_LEN / 2 {
            return self.source.read_exact_at(buffer, offset);
        }
        let mut window = self.window.borrow_mut();
        let (start, bytes) = &mut *window;
        if offset < *start || end > *start + bytes.len() as u64 {
            let length = (self.size - offset).min(WINDOW_LEN as u64);
            bytes.resize(usize::try_from(length).expect("a window fits memory"), 0);
            if let Err(error) = self.source.read_exact_at(bytes, offset) {
                bytes.clear();
                return Err(error);
            }
            *start = offset;
        }
        let from = usize::try_from(offset - *start).expect("the window covers the offset");
        buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
        Ok(())
    }
}
