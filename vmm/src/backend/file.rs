//! A file that backs a disk, or a piece of one.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use husk_devices::virtio::block::Backend;
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use vm_memory::VolatileSlice;

use crate::sys;

/// Zeros written at once where the file system has no better way.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A regular file. Read-only files come as read-only descriptors: the kernel refuses every write
/// to them, whatever happens above.
#[derive(Debug)]
pub(crate) struct DiskFile(pub(crate) File);

impl Backend for DiskFile {
    fn read_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
        retry(|| sys::read_at(self.0.as_fd(), buffers, offset))
    }

    fn write_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
        retry(|| sys::write_at(self.0.as_fd(), buffers, offset))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(fdatasync(&self.0)?)
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.0, mode, offset, length)?)
    }

    fn write_zeros(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let mode = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.0, mode, offset, length) {
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            other => return Ok(other?),
        }
        let mut done = 0;
        while done < length {
            let left = usize::try_from(length - done).unwrap_or(usize::MAX);
            let piece = &ZEROS[..left.min(ZEROS.len())];
            self.0.write_all_at(piece, offset + done)?;
            done += piece.len() as u64;
        }
        Ok(())
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
