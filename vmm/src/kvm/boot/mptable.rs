//! The MP table: which processors and interrupt lines there are.
//!
//! Intel's MultiProcessor Specification 1.4, chapter 4. Every line is an ISA interrupt of its own
//! number, which means edge-triggered and active high.

use crate::memory::{IOAPIC, LOCAL_APIC, LOW_MEMORY_END};

/// The last KiB of low memory, one of the places where a kernel looks.
pub(super) const ADDRESS: u64 = LOW_MEMORY_END;
/// Bytes there are.
const ROOM: usize = 1024;

/// The version of the local APICs: integrated.
const APIC_VERSION: u8 = 0x14;
const IOAPIC_VERSION: u8 = 0x11;
const SPECIFICATION: u8 = 4;
const ENABLED: u8 = 1;
const BOOT_PROCESSOR: u8 = 2;
/// The only bus.
const ISA: u8 = 0;

/// Kinds of interrupts.
const VECTORED: u8 = 0;
const NON_MASKABLE: u8 = 1;
const EXTERNAL: u8 = 3;
const ALL_APICS: u8 = 0xff;

/// The floating pointer and the table that it points to.
///
/// `vcpus` is at most 32, `lines` at most 33, line 0 being none.
pub(super) fn table(vcpus: u8, lines: u8) -> Vec<u8> {
    let ioapic_id = vcpus;
    let mut entries = Vec::new();
    let mut count = 0_u16;
    let mut entry = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for id in 0..vcpus {
        let flags = ENABLED | if id == 0 { BOOT_PROCESSOR } else { 0 };
        let mut processor = [0; 20];
        processor[..4].copy_from_slice(&[0, id, APIC_VERSION, flags]);
        entry(&processor);
    }
    entry(&[&[1, ISA][..], b"ISA   "].concat());
    entry(&[&[2, ioapic_id, IOAPIC_VERSION, ENABLED][..], &address(IOAPIC.start)].concat());
    for line in 1..lines {
        entry(&[3, VECTORED, 0, 0, ISA, line, ioapic_id, line]);
    }
    entry(&[4, EXTERNAL, 0, 0, ISA, 0, 0, 0]);
    entry(&[4, NON_MASKABLE, 0, 0, ISA, 0, ALL_APICS, 1]);
    let header = header(&entries, count);
    let bytes = [&floating_pointer()[..], &header, &entries].concat();
    assert!(bytes.len() <= ROOM, "as many processors and lines as fit are the most there are");
    bytes
}

fn floating_pointer() -> [u8; 16] {
    let mut pointer = [0; 16];
    pointer[..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&address(ADDRESS + 16));
    // Its length in units of 16 bytes.
    pointer[8] = 1;
    pointer[9] = SPECIFICATION;
    pointer[10] = checksum(&pointer);
    pointer
}

fn header(entries: &[u8], count: u16) -> [u8; 44] {
    let mut header = [0; 44];
    let length = u16::try_from(header.len() + entries.len()).expect("it fits in a KiB");
    header[..4].copy_from_slice(b"PCMP");
    header[4..6].copy_from_slice(&length.to_le_bytes());
    header[6] = SPECIFICATION;
    header[8..28].copy_from_slice(b"HUSK    MICROVM     ");
    header[34..36].copy_from_slice(&count.to_le_bytes());
    header[36..40].copy_from_slice(&address(LOCAL_APIC.start));
    header[7] = checksum(&[&header[..], entries].concat());
    header
}

fn address(address: u64) -> [u8; 4] {
    u32::try_from(address).expect("it lies below 4 GiB").to_le_bytes()
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_machine_fits() {
        assert!(table(32, 33).len() <= ROOM);
    }

    #[test]
    fn every_processor_and_line_has_an_entry_and_sums_are_zero() {
        for (vcpus, lines) in [(1, 1), (2, 4), (32, 33)] {
            let bytes = table(vcpus, lines);
            let (pointer, table) = bytes.split_at(16);
            assert_eq!((&pointer[..4], checksum(pointer)), (&b"_MP_"[..], 0));
            assert_eq!(pointer[4..8], 0x9_fc10_u32.to_le_bytes());
            assert_eq!((&table[..4], checksum(table)), (&b"PCMP"[..], 0));
            assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
            let (mut rest, mut kinds) = (&table[44..], [0_u8; 5]);
            while let Some(&kind) = rest.first() {
                kinds[usize::from(kind)] += 1;
                rest = &rest[if kind == 0 { 20 } else { 8 }..];
            }
            assert_eq!(kinds, [vcpus, 1, 1, lines - 1, 2]);
            let count = kinds.map(u16::from).iter().sum::<u16>();
            assert_eq!(u16::from_le_bytes([table[34], table[35]]), count);
        }
    }
}
