//! Where things lie in guest memory, and units.

/// Bytes.
pub const MEBIBYTE: u64 = 1 << 20;

/// Queues that a device may have here.
pub(crate) const QUEUES_MAX: u64 = 8;

/// Bytes between the rings of one queue and those of the next.
const QUEUE_STRIDE: u64 = 0x1000;

/// The rings of one queue, as the driver lays them out until it lies about them.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    /// The descriptor table.
    pub descriptors: u64,
    /// What the driver offers.
    pub available: u64,
    /// What the device gives back.
    pub used: u64,
}

impl Rings {
    /// Where queue `index` has its rings: 128 entries at most.
    pub fn of(index: usize) -> Self {
        let start = (index as u64 % QUEUES_MAX) * QUEUE_STRIDE;
        Self { descriptors: start, available: start + 0x800, used: start + 0xa00 }
    }
}
