//! The structure of the PVH protocol.

use husk_devices::virtio::Memory;
use linux_loader::loader::elf::start_info::{
    XEN_HVM_MEMMAP_TYPE_RAM, hvm_memmap_table_entry, hvm_start_info,
};
use vm_memory::ByteValued;

use super::{COMMAND_LINE, write};
use crate::kvm::error::KvmError;
use crate::memory::Layout;

/// Where it is.
pub(super) const START_INFO: u64 = 0x6000;
/// Where its memory map is.
const MEMORY_MAP: u64 = START_INFO + 0x100;
const MAGIC: u32 = 0x336e_c578;
/// The version with a memory map.
const VERSION: u32 = 1;

/// Writes the structure and its memory map.
pub(super) fn write_start_info(memory: &Memory, layout: &Layout) -> Result<(), KvmError> {
    let mut map = Vec::new();
    let mut entries = 0;
    for range in layout.usable() {
        let entry = hvm_memmap_table_entry {
            addr: range.start,
            size: range.length,
            type_: XEN_HVM_MEMMAP_TYPE_RAM,
            ..Default::default()
        };
        map.extend_from_slice(entry.as_slice());
        entries += 1;
    }
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        cmdline_paddr: COMMAND_LINE,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: entries,
        ..Default::default()
    };
    write(memory, &map, MEMORY_MAP, "memory map")?;
    write(memory, info.as_slice(), START_INFO, "start information")
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::map_ram;

    #[test]
    fn the_guest_is_told_of_all_its_memory() {
        let layout = Layout::new(5 << 10, &[], 0).unwrap();
        let memory = map_ram(&layout).unwrap();
        write_start_info(&memory, &layout).unwrap();
        let info: hvm_start_info = memory.read_obj(GuestAddress(START_INFO)).unwrap();
        assert_eq!((info.magic, info.version, info.memmap_entries), (MAGIC, 1, 3));
        assert_eq!(info.cmdline_paddr, COMMAND_LINE);
        let told = (0..3).map(|number| {
            let place = GuestAddress(info.memmap_paddr + 24 * number);
            let entry: hvm_memmap_table_entry = memory.read_obj(place).unwrap();
            (entry.addr, entry.size, entry.type_)
        });
        let expected = layout.usable().map(|range| (range.start, range.length, 1));
        assert!(told.eq(expected));
    }
}
