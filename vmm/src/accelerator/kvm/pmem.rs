//! Persistent memory: files of the host in the guest's address space, which it can only read.
//!
//! Read-only three times over, and none of it the guest's word: the descriptor, this process's
//! mapping, the memory slot. A guest's write leaves the guest as one to an address where nothing
//! is, and changes nothing. The memory is no part of what the devices see: a driver cannot have
//! them read from it or write to it.

use std::io;

use husk_devices::virtio::Device;
use husk_devices::virtio::pmem::Pmem;

use crate::accelerator::{AcceleratorError, PmemSource};
use crate::kvm::ReadOnlySlot;
use crate::memory::{Layout, ReadOnlyMapping};

/// Maps each source at its place, for KVM.
pub(super) fn slots(
    sources: &[PmemSource],
    layout: &Layout,
) -> Result<Vec<ReadOnlySlot>, AcceleratorError> {
    let failed = |source| AcceleratorError::Io { attempt: "map persistent memory", source };
    let slot = |(source, &range): (&PmemSource, _)| -> io::Result<ReadOnlySlot> {
        let length = source.file.metadata()?.len().min(source.length);
        Ok(ReadOnlySlot {
            range,
            mapping: ReadOnlyMapping::new(&source.file, length, range.length)?,
        })
    };
    let slots = sources.iter().zip(layout.pmem()).map(slot);
    slots.collect::<Result<_, _>>().map_err(failed)
}

/// The device of each, which tells the driver where it is.
pub(super) fn devices(layout: &Layout) -> impl Iterator<Item = Box<dyn Device>> {
    let ranges = layout.pmem().iter();
    ranges.map(|range| Box::new(Pmem::new(range.start, range.length)) as Box<dyn Device>)
}
