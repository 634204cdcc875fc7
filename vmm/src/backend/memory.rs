//! The host's memory behind a balloon.

use std::io;

use husk_devices::virtio::balloon::Backend;
use vm_memory::VolatileSlice;

use crate::sys::discard_memory;

/// Gives pages back to the kernel.
#[derive(Debug)]
pub(crate) struct HostMemory;

impl Backend for HostMemory {
    fn discard(&mut self, memory: &VolatileSlice<'_>) -> io::Result<()> {
        discard_memory(memory)
    }
}
