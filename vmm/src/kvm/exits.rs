//! Why vCPUs left the guest, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// A reason to leave the guest for this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ExitReason {
    IoIn,
    IoOut,
    /// Registers of a device.
    MmioRead,
    MmioWrite,
    IoapicRead,
    IoapicWrite,
    /// An address where nothing is.
    Unmapped,
    Halt,
    /// A triple fault: how a guest resets that has no other way.
    Shutdown,
    Interrupted,
    InternalError,
    Other,
}

/// All reasons with their names, in the order of the enumeration.
const NAMES: [(ExitReason, &str); 12] = [
    (ExitReason::IoIn, "io_in"),
    (ExitReason::IoOut, "io_out"),
    (ExitReason::MmioRead, "mmio_read"),
    (ExitReason::MmioWrite, "mmio_write"),
    (ExitReason::IoapicRead, "ioapic_read"),
    (ExitReason::IoapicWrite, "ioapic_write"),
    (ExitReason::Unmapped, "unmapped"),
    (ExitReason::Halt, "halt"),
    (ExitReason::Shutdown, "shutdown"),
    (ExitReason::Interrupted, "interrupted"),
    (ExitReason::InternalError, "internal_error"),
    (ExitReason::Other, "other"),
];

/// One vCPU's counters: written by its thread, read by any.
#[derive(Debug, Default)]
pub(crate) struct ExitCounters([AtomicU64; NAMES.len()]);

impl ExitCounters {
    /// One more; to be called on the vCPU's own thread only, so that no bus lock is needed.
    pub(super) fn count(&self, reason: ExitReason) {
        let counter = &self.0[reason as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Adds what was counted to `sums`; a reason that never came up has no place there.
    pub(crate) fn add_to(&self, sums: &mut BTreeMap<String, u64>) {
        for (counter, (_, name)) in self.0.iter().zip(NAMES) {
            let count = counter.load(Ordering::Relaxed);
            if count > 0 {
                *sums.entry(name.to_owned()).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_reasons() {
        for (place, (reason, _)) in NAMES.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn counters_of_several_vcpus_add_up() {
        let (first, second) = (ExitCounters::default(), ExitCounters::default());
        first.count(ExitReason::IoOut);
        first.count(ExitReason::Halt);
        second.count(ExitReason::IoOut);
        let mut sums = BTreeMap::new();
        first.add_to(&mut sums);
        second.add_to(&mut sums);
        assert_eq!(sums, BTreeMap::from([("halt".into(), 1), ("io_out".into(), 2)]));
    }
}
