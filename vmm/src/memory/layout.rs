//! Where everything lies in the guest's physical address space, as a pure function.
//!
//! ```text
//! 0                    memory; its first MiB holds what the boot protocols need
//! 0xC000_0000  3 GiB   the gap: no memory
//! 0xD000_0000          device windows, 4 KiB each
//! 0xFEC0_0000          I/O APIC
//! 0xFEE0_0000          local APICs
//! 0xFFFB_C000          four pages that KVM keeps for itself on Intel
//! 0x1_0000_0000 4 GiB  the rest of the memory
//! then, 128 MiB aligned   windows of persistent memory, each a multiple of 2 MiB
//! ```

/// Memory below here is one piece; what does not fit continues at [`GAP_END`].
const GAP_START: u64 = 0xc000_0000;
/// The first address behind the gap.
const GAP_END: u64 = 1 << 32;
/// The first device window.
const WINDOWS: u64 = 0xd000_0000;
/// Bytes of a device window: one page, so that no two devices share one.
pub(crate) const WINDOW_LENGTH: u64 = 0x1000;
/// The I/O APIC's registers.
pub(crate) const IOAPIC: Range = Range { start: 0xfec0_0000, length: 0x1000 };
/// The local APICs' registers, where every x86 has them.
pub(crate) const LOCAL_APIC: Range = Range { start: 0xfee0_0000, length: 0x1000 };
/// A page table that KVM needs on Intel processors without unrestricted guests.
pub(crate) const IDENTITY_MAP: Range = Range { start: 0xfffb_c000, length: 0x1000 };
/// A task state segment that KVM needs on Intel processors.
pub(crate) const TSS: Range = Range { start: 0xfffb_d000, length: 0x3000 };

/// What a PC has free below 1 MiB: Linux looks for the MP table in the KiB behind it.
pub(crate) const LOW_MEMORY_END: u64 = 0x9_fc00;
/// Where memory goes on, behind what was video memory and firmware on a PC.
const HIGH_MEMORY: u64 = 1 << 20;

/// A section of Linux's memory model: persistent memory must not share one with memory.
const SECTION: u64 = 128 << 20;
/// What a window of persistent memory is rounded up to: a huge page of the guest.
const PMEM_UNIT: u64 = 2 << 20;

/// Some guest physical addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Range {
    /// The first.
    pub(crate) start: u64,
    /// Bytes, at least one.
    pub(crate) length: u64,
}

impl Range {
    /// The first address behind it.
    pub(crate) fn end(self) -> u64 {
        self.start + self.length
    }

    /// Whether an address lies in it.
    pub(crate) fn contains(self, address: u64) -> bool {
        address >= self.start && address - self.start < self.length
    }
}

/// What cannot be laid out.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum LayoutError {
    /// The gap ends before the windows do.
    #[error("{devices} devices are more than the {DEVICES_MAX} that have an address and a line")]
    TooManyDevices {
        /// Devices asked for.
        devices: usize,
    },
    /// Persistent memory without a byte, or with more than addresses.
    #[error("a persistent memory of {length} bytes has no place among the guest's addresses")]
    Pmem {
        /// Its length.
        length: u64,
    },
}

/// Devices with a window, each with an interrupt line of its own: what an MP table below 1 MiB
/// describes beside 32 CPUs.
const DEVICES_MAX: usize = 32;

/// A guest's address space.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    /// Memory below the gap.
    low: Range,
    /// Memory above it.
    high: Option<Range>,
    /// Persistent memory, in the order asked for.
    pmem: Vec<Range>,
    devices: usize,
}

impl Layout {
    /// Lays out `memory_mib` (at least 32) MiB, persistent memory of those lengths in bytes, and
    /// so many device windows.
    pub(crate) fn new(
        memory_mib: u32,
        pmem_lengths: &[u64],
        devices: usize,
    ) -> Result<Self, LayoutError> {
        if devices > DEVICES_MAX {
            return Err(LayoutError::TooManyDevices { devices });
        }
        let memory = u64::from(memory_mib) << 20;
        let low = Range { start: 0, length: memory.min(GAP_START) };
        let high = memory.checked_sub(GAP_START).filter(|&length| length > 0);
        let high = high.map(|length| Range { start: GAP_END, length });
        let mut next = high.map_or(GAP_END, Range::end).next_multiple_of(SECTION);
        let mut pmem = Vec::with_capacity(pmem_lengths.len());
        for &length in pmem_lengths {
            let refused = LayoutError::Pmem { length };
            if length == 0 {
                return Err(refused);
            }
            let window = length.checked_next_multiple_of(PMEM_UNIT);
            let end = window.and_then(|window| next.checked_add(window));
            let (Some(window), Some(end)) = (window, end.filter(|&end| end < 1 << 52)) else {
                return Err(refused);
            };
            pmem.push(Range { start: next, length: window });
            next = end.next_multiple_of(SECTION);
        }
        Ok(Self { low, high, pmem, devices })
    }

    /// The pieces of memory, without holes: what is mapped.
    pub(crate) fn ram(&self) -> impl Iterator<Item = Range> {
        [Some(self.low), self.high].into_iter().flatten()
    }

    /// The pieces of memory that the guest may use: what it is told.
    pub(crate) fn usable(&self) -> impl Iterator<Item = Range> {
        let first = Range { start: 0, length: LOW_MEMORY_END };
        let second = Range { start: HIGH_MEMORY, length: self.low.end() - HIGH_MEMORY };
        [Some(first), Some(second), self.high].into_iter().flatten()
    }

    /// Where persistent memory lies, in the order asked for.
    pub(crate) fn pmem(&self) -> &[Range] {
        &self.pmem
    }

    /// The device windows in order.
    pub(crate) fn windows(&self) -> impl Iterator<Item = Range> {
        let starts = (WINDOWS..).step_by(WINDOW_LENGTH.try_into().expect("a page is small"));
        starts.take(self.devices).map(|start| Range { start, length: WINDOW_LENGTH })
    }

    /// Where a kernel may be loaded: above the boot structures, below the gap.
    pub(crate) fn kernel_end(&self) -> u64 {
        self.low.end()
    }

    /// The first address behind everything.
    pub(crate) fn end(&self) -> u64 {
        let last = self.pmem.last().copied().or(self.high);
        last.map_or(GAP_END, Range::end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn everything(layout: &Layout) -> Vec<Range> {
        let mut all: Vec<Range> = layout.ram().collect();
        all.extend(layout.pmem());
        all.extend(layout.windows());
        all.extend([IOAPIC, LOCAL_APIC, IDENTITY_MAP, TSS]);
        all.sort_by_key(|range| range.start);
        all
    }

    proptest! {
        #[test]
        fn nothing_overlaps_and_nothing_is_lost(
            memory_mib in 32_u32..=1 << 20,
            pmem in prop::collection::vec(1_u64..64 << 30, 0..8),
            devices in 0..=DEVICES_MAX,
        ) {
            let layout = Layout::new(memory_mib, &pmem, devices).unwrap();
            let all = everything(&layout);
            for pair in all.windows(2) {
                prop_assert!(pair[0].end() <= pair[1].start, "{:?}", pair);
            }
            prop_assert_eq!(
                layout.ram().map(|range| range.length).sum::<u64>(),
                u64::from(memory_mib) << 20
            );
            prop_assert!(all.iter().all(|range| range.length > 0 && range.end() <= layout.end()));
        }

        #[test]
        fn what_the_guest_may_use_is_memory(memory_mib in 32_u32..=1 << 20) {
            let layout = Layout::new(memory_mib, &[], 3).unwrap();
            for usable in layout.usable() {
                prop_assert!(usable.length > 0);
                let mut ram = layout.ram();
                let inside = |ram: Range| ram.contains(usable.start) && usable.end() <= ram.end();
                prop_assert!(ram.any(inside));
            }
            let used: u64 = layout.usable().map(|range| range.length).sum();
            let hole = HIGH_MEMORY - LOW_MEMORY_END;
            prop_assert_eq!(used, (u64::from(memory_mib) << 20) - hole);
        }

        #[test]
        fn persistent_memory_is_aligned_and_long_enough(
            memory_mib in 32_u32..=1 << 20,
            pmem in prop::collection::vec(1_u64..64 << 30, 1..8),
        ) {
            let layout = Layout::new(memory_mib, &pmem, 0).unwrap();
            prop_assert_eq!(layout.pmem().len(), pmem.len());
            for (range, length) in layout.pmem().iter().zip(pmem) {
                prop_assert!(range.start % SECTION == 0 && range.length % PMEM_UNIT == 0);
                prop_assert!(range.length >= length && range.length - length < PMEM_UNIT);
            }
        }
    }

    #[test]
    fn what_has_no_place_is_refused() {
        assert_eq!(
            Layout::new(128, &[], 33).unwrap_err(),
            LayoutError::TooManyDevices { devices: 33 }
        );
        for length in [0, u64::MAX, 1 << 52] {
            assert_eq!(Layout::new(128, &[length], 1).unwrap_err(), LayoutError::Pmem { length });
        }
    }

    #[test]
    fn memory_of_exactly_three_gigabytes_leaves_nothing_above_the_gap() {
        let layout = Layout::new(3 << 10, &[], 0).unwrap();
        assert_eq!(layout.ram().count(), 1);
        assert_eq!(layout.end(), GAP_END);
        let layout = Layout::new((3 << 10) + 1, &[], 0).unwrap();
        assert_eq!(layout.ram().nth(1).unwrap(), Range { start: GAP_END, length: 1 << 20 });
    }
}
