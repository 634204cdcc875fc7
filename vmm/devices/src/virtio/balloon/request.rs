//! What a driver gives up, as ranges of whole pages: read once, and checked for nothing but size.
//! Whether they are memory, the memory knows.

use virtio_queue::DescriptorChain;
use vm_memory::GuestAddress;

use super::PAGE_LENGTH;
use crate::virtio::{Buffers, Memory};

/// Pages of one inflate request that are looked at; drivers send 256. The guest keeps the others,
/// which costs the host what it had before.
const PAGES_MAX: usize = 1024;

/// Descriptors of one report that are looked at; drivers send 32.
const RANGES_MAX: usize = 64;

/// Whole pages of guest memory, or of nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PageRange {
    /// A multiple of a page's length.
    pub(super) start: GuestAddress,
    /// A positive multiple of a page's length.
    pub(super) length: usize,
}

impl PageRange {
    /// The pages that lie entirely within `length` bytes at `address`.
    fn within(address: u64, length: u64) -> Option<Self> {
        let start = address.checked_next_multiple_of(PAGE_LENGTH)?;
        let end = address.checked_add(length)? / PAGE_LENGTH * PAGE_LENGTH;
        let length = end.checked_sub(start).filter(|&length| length > 0)?;
        Some(Self { start: GuestAddress(start), length: usize::try_from(length).ok()? })
    }
}

/// Reads the page numbers of an inflate request (section 5.5.6.1); neighbours become one range.
pub(super) fn inflated(numbers: &Buffers<'_>) -> Vec<PageRange> {
    let mut bytes = [0; 4 * PAGES_MAX];
    let length = numbers.copy_to(&mut bytes);
    let words = bytes[..length].chunks_exact(4);
    let mut pages: Vec<u64> =
        words.map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")).into()).collect();
    pages.sort_unstable();
    pages.dedup();
    pages
        .chunk_by(|page, next| page + 1 == *next)
        .filter_map(|run| PageRange::within(run[0] * PAGE_LENGTH, run.len() as u64 * PAGE_LENGTH))
        .collect()
}

/// Reads the descriptors of a report (section 5.5.6.7): each is a range that the guest has freed.
pub(super) fn reported(chain: DescriptorChain<&Memory>) -> Vec<PageRange> {
    chain
        .take(RANGES_MAX)
        .filter(|descriptor| descriptor.is_write_only())
        .filter_map(|range| PageRange::within(range.addr().0, range.len().into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use vm_memory::VolatileSlice;

    use super::*;

    fn range(start: u64, length: usize) -> PageRange {
        PageRange { start: GuestAddress(start), length }
    }

    #[test]
    fn only_whole_pages_count() {
        for (address, length, expected) in [
            (0, 4096, Some(range(0, 4096))),
            (1, 8191, Some(range(4096, 4096))),
            (1, 4095, None),
            (4095, 4098, Some(range(4096, 4096))),
            (4097, 4096, None),
            (8192, 0, None),
            (u64::MAX - 4096, 4096, None),
            (u64::MAX, u64::MAX, None),
        ] {
            assert_eq!(PageRange::within(address, length), expected, "{address} {length}");
        }
    }

    #[test]
    fn neighbours_become_one_range_in_whatever_order_they_come() {
        let mut bytes: Vec<u8> =
            [7_u32, 5, 6, 9, 6, u32::MAX].iter().flat_map(|page| page.to_le_bytes()).collect();
        bytes.extend([1, 2, 3]);
        let numbers = Buffers::from(vec![VolatileSlice::from(&mut bytes[..])]);
        let last = u64::from(u32::MAX) * 4096;
        assert_eq!(
            inflated(&numbers),
            [range(5 * 4096, 3 * 4096), range(9 * 4096, 4096), range(last, 4096)]
        );
    }
}
