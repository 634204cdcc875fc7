//! What the kernel's own 64-bit protocol wants in memory.

use std::mem::offset_of;

use husk_devices::virtio::Memory;
use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};

use super::{COMMAND_LINE, COMMAND_LINE_MAX, write};
use crate::kvm::error::KvmError;
use crate::memory::Layout;

/// The descriptor table.
pub(super) const GDT: u64 = 0x500;
/// The kernel's structure.
pub(super) const ZERO_PAGE: u64 = 0x7000;
/// The first level of the page tables; the others follow.
pub(super) const PAGE_TABLES: u64 = 0x9000;

/// Descriptors at the selectors that the protocol names: 0x10 for code, 0x18 for data, and a task
/// state segment, which the processor wants.
pub(super) const DESCRIPTORS: [u64; 5] =
    [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x008f_8b00_0000_ffff];

/// Present and writable.
const TABLE: u64 = 0b11;
/// The same, for 2 MiB of memory.
const HUGE_PAGE: u64 = TABLE | 1 << 7;
const PAGE: u64 = 0x1000;
/// Page directories: each maps a GiB, and kernels lie below 4 GiB.
const DIRECTORIES: u8 = 4;
/// Entries of a table.
const ENTRIES: usize = 512;

/// `E820_TYPE_RAM`.
const RAM: u32 = 1;
/// A loader without a number of its own.
const UNDEFINED_LOADER: u8 = 0xff;
/// What the header says of itself: "HdrS", and the mark of a boot sector.
const HEADER: u32 = 0x5372_6448;
const BOOT_FLAG: u16 = 0xaa55;
/// The protocol's version with 64-bit entry.
const VERSION: u16 = 0x20c;

/// Writes zero page, descriptor table and page tables.
pub(super) fn write_structures(memory: &Memory, layout: &Layout) -> Result<(), KvmError> {
    let descriptors: Vec<u8> = DESCRIPTORS.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    write(memory, &descriptors, GDT, "descriptor table")?;
    write(memory, &page_tables(), PAGE_TABLES, "page tables")?;
    write(memory, &zero_page(layout), ZERO_PAGE, "zero page")
}

/// The first 4 GiB, each address mapped to itself.
fn page_tables() -> Vec<u8> {
    let mut entries = vec![0; ENTRIES * (2 + usize::from(DIRECTORIES))];
    entries[0] = (PAGE_TABLES + PAGE) | TABLE;
    for (directory, entry) in (0..DIRECTORIES).zip(&mut entries[ENTRIES..]) {
        *entry = (PAGE_TABLES + (2 + u64::from(directory)) * PAGE) | TABLE;
    }
    for (page, entry) in (0_u64..).zip(&mut entries[2 * ENTRIES..]) {
        *entry = page << 21 | HUGE_PAGE;
    }
    entries.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// `struct boot_params`, of which a 64-bit kernel reads little.
fn zero_page(layout: &Layout) -> Vec<u8> {
    let mut page = vec![0; size_of::<boot_params>()];
    let mut put = |offset: usize, bytes: &[u8]| {
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    let header = offset_of!(boot_params, hdr);
    put(header + offset_of!(setup_header, boot_flag), &BOOT_FLAG.to_le_bytes());
    put(header + offset_of!(setup_header, header), &HEADER.to_le_bytes());
    put(header + offset_of!(setup_header, version), &VERSION.to_le_bytes());
    put(header + offset_of!(setup_header, type_of_loader), &[UNDEFINED_LOADER]);
    let line = u32::try_from(COMMAND_LINE).expect("it lies below 1 MiB");
    put(header + offset_of!(setup_header, cmd_line_ptr), &line.to_le_bytes());
    let length = u32::try_from(COMMAND_LINE_MAX).expect("it is short");
    put(header + offset_of!(setup_header, cmdline_size), &length.to_le_bytes());
    let mut count = 0;
    for range in layout.usable() {
        let entry = offset_of!(boot_params, e820_table) + count * size_of::<boot_e820_entry>();
        put(entry, &range.start.to_le_bytes());
        put(entry + 8, &range.length.to_le_bytes());
        put(entry + 16, &RAM.to_le_bytes());
        count += 1;
    }
    let count = u8::try_from(count).expect("memory is three pieces");
    put(offset_of!(boot_params, e820_entries), &[count]);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_below_four_gigabytes_is_its_own() {
        let bytes = page_tables();
        let entry = |table: u64, index: u64| {
            let place = usize::try_from(table - PAGE_TABLES + 8 * index).unwrap();
            u64::from_le_bytes(bytes[place..place + 8].try_into().unwrap())
        };
        for address in [0, 0x1234_5678, 0xbfff_f000, 0xffff_ffff_u64] {
            let upper = entry(PAGE_TABLES, address >> 39) & !0xfff;
            let directory = entry(upper, address >> 30) & !0xfff;
            let page = entry(directory, address >> 21 & 511);
            assert_eq!(page & 0xfff, HUGE_PAGE);
            assert_eq!(page & !0xfff, address & !0x1f_ffff);
        }
        assert!(PAGE_TABLES + bytes.len() as u64 <= COMMAND_LINE);
    }

    #[test]
    fn the_zero_page_has_the_places_that_the_documentation_names() {
        let page = zero_page(&Layout::new(64, &[], 0).unwrap());
        assert_eq!(page.len(), 4096);
        assert_eq!(page[0x1fe..0x200], [0x55, 0xaa]);
        assert_eq!(&page[0x202..0x206], b"HdrS");
        assert_eq!(page[0x228..0x22c], 0x2_0000_u32.to_le_bytes());
        assert_eq!(page[0x1e8], 2);
        assert_eq!(page[0x2d0 + 20..0x2d0 + 28], 0x10_0000_u64.to_le_bytes());
    }
}
