//! What a guest tells of its memory (section 5.5.6.3), read once.

use crate::virtio::Buffers;

/// Bytes of one entry: a tag of two and a value of eight.
const ENTRY_LENGTH: usize = 10;

/// Entries that are read: the specification knows ten tags, kernels a few more.
const ENTRIES_MAX: usize = 64;

/// A guest's use of its memory, as it says; what it does not tell is absent. Units are bytes where
/// nothing else is said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Read from swap.
    pub swap_in: Option<u64>,
    /// Written to swap.
    pub swap_out: Option<u64>,
    /// Page faults that needed a disk, in number.
    pub major_faults: Option<u64>,
    /// Page faults that did not, in number.
    pub minor_faults: Option<u64>,
    /// Used for nothing.
    pub free: Option<u64>,
    /// All there is.
    pub total: Option<u64>,
    /// What programs could have without swapping.
    pub available: Option<u64>,
    /// Used for what a disk holds as well.
    pub caches: Option<u64>,
}

impl Statistics {
    /// Reads the entries of one buffer. Of a tag that comes twice the last counts; unknown ones
    /// and a broken last entry are passed over.
    pub fn parse(mut entries: Buffers<'_>) -> Self {
        let mut statistics = Self::default();
        for _ in 0..ENTRIES_MAX {
            let Ok(entry) = entries.read::<ENTRY_LENGTH>() else { break };
            let (tag, value) = entry.split_at(2);
            let tag = u16::from_le_bytes(tag.try_into().expect("two bytes"));
            let value = u64::from_le_bytes(value.try_into().expect("eight bytes"));
            let place = match tag {
                0 => &mut statistics.swap_in,
                1 => &mut statistics.swap_out,
                2 => &mut statistics.major_faults,
                3 => &mut statistics.minor_faults,
                4 => &mut statistics.free,
                5 => &mut statistics.total,
                6 => &mut statistics.available,
                7 => &mut statistics.caches,
                _ => continue,
            };
            *place = Some(value);
        }
        statistics
    }
}
