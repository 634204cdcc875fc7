//! What a transport needs to know of a device.

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;

use super::{QueueError, Served};

/// Guest memory without dirty tracking.
pub type Memory = GuestMemoryMmap<()>;

/// Queues of one device: their sets are the bits of a word.
pub const QUEUES_MAX: usize = 32;

/// The kind of a device, numbered as in section 5 of the virtio specification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum DeviceKind {
    /// Section 5.1.
    Net = 1,
    /// Section 5.2.
    Block = 2,
    /// Section 5.3.
    Console = 3,
    /// Section 5.4.
    Rng = 4,
    /// Section 5.5.
    Balloon = 5,
    /// Section 5.10.
    Vsock = 19,
    /// Section 5.19.
    Pmem = 27,
}

/// What became possible on a file descriptor that a device has asked to watch.
///
/// Descriptors are watched edge-triggered, so a device that leaves something undone remembers it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Readiness {
    /// It can be read from, or its other side is gone.
    pub readable: bool,
    /// It can be written to, or its other side is gone.
    pub writable: bool,
}

/// One device model, driven by a transport (virtio-mmio or vhost-user) from one thread.
///
/// The transport owns the queues: it freezes their addresses and sizes once the driver is ready,
/// and calls [`process`](Device::process) when the driver kicks a queue, as well as for every
/// queue in [`ready_queues`](Device::ready_queues) after anything else has happened. The
/// configuration space alone is accessed from other threads too, under the transport's lock.
///
/// What few devices need has a default: a device without it behaves as if it had nothing there.
pub trait Device: Send {
    /// What the driver takes it for.
    fn kind(&self) -> DeviceKind;

    /// The largest size of each queue, powers of two; at most [`QUEUES_MAX`] of them.
    fn queue_sizes(&self) -> &[u16];

    /// The feature bits offered.
    fn features(&self) -> u64;

    /// Works on the queue of that index, as far as one turn goes.
    ///
    /// An error means that the queue itself is broken: the transport stops it until a reset.
    fn process(
        &mut self,
        index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError>;

    /// Fills `data` from the configuration space at `offset`; what lies outside reads as zeros.
    fn read_config(&self, _offset: u32, data: &mut [u8]) {
        data.fill(0);
    }

    /// Takes a write to the configuration space; what is not writable is ignored.
    fn write_config(&mut self, _offset: u32, _data: &[u8]) {}

    /// Whether the configuration space has changed by itself since the last call: the transport
    /// asks after everything that it calls, and tells the driver.
    fn take_config_change(&mut self) -> bool {
        false
    }

    /// The driver is ready and has accepted `features`.
    fn activate(&mut self, _features: u64) {}

    /// Forgets all that belongs to the driver; the queues are gone.
    fn reset(&mut self) {}

    /// Something happened on a descriptor that the device watches under `token`.
    fn handle_event(&mut self, _token: u32, _readiness: Readiness) {}

    /// The queues for which the host side has work, bit `i` for queue `i`.
    fn ready_queues(&self) -> u32 {
        0
    }
}

/// Fills `data` from `space` at `offset`, with zeros behind its end.
pub fn read_config_bytes(space: &[u8], offset: u32, data: &mut [u8]) {
    data.fill(0);
    let start = usize::try_from(offset).map_or(space.len(), |offset| offset.min(space.len()));
    let length = data.len().min(space.len() - start);
    data[..length].copy_from_slice(&space[start..start + length]);
}

#[cfg(test)]
mod tests {
    use super::read_config_bytes;

    #[test]
    fn reading_behind_the_configuration_space_gives_zeros() {
        for (offset, expected) in
            [(0, [1, 2, 3, 0]), (2, [3, 0, 0, 0]), (3, [0; 4]), (u32::MAX, [0; 4])]
        {
            let mut data = [9; 4];
            read_config_bytes(&[1, 2, 3], offset, &mut data);
            assert_eq!(data, expected);
        }
    }
}
