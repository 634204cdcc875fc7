//! What the device asks of the host's memory.

use std::io;

use vm_memory::VolatileSlice;

/// The memory that guest memory lies in.
pub trait Backend: Send {
    /// Gives whole pages back to the host. The content is lost: what is read afterwards are zeros,
    /// or what the memory held when it was set up. A failure keeps the content.
    fn discard(&mut self, memory: &VolatileSlice<'_>) -> io::Result<()>;
}
