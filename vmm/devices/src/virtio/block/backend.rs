//! What a block device asks of a file.

use std::io;

use vm_memory::VolatileSlice;

/// One file of a disk. Offsets and lengths are in bytes; data moves between file and guest memory
/// with no copy between them.
pub trait Backend: Send {
    /// Reads into `buffers` in order; fewer bytes than they hold are not yet an end, 0 is.
    fn read_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Writes from `buffers` in order, and returns how much of them.
    fn write_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Returns once everything written is on stable storage.
    fn sync(&mut self) -> io::Result<()>;

    /// Gives the space of that range back; it reads as zeros from then on.
    fn punch_hole(&mut self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes that range read as zeros without giving its space back.
    fn write_zeros(&mut self, offset: u64, length: u64) -> io::Result<()>;
}
