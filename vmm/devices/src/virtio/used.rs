//! Using several chains as one: a frame that fills more than one buffer appears at once.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Error, Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::{Memory, QueueError};

/// Bytes of flags and index before the entries of either ring.
const RING_HEADER: u64 = 4;

/// Bytes from a ring's start to its index.
const INDEX: u64 = 2;

/// Gives chains back, as (head, bytes written); the driver sees all of them or none
/// (section 5.1.6.4). They must have been taken from the queue.
///
/// The queue's own count of what it has used is passed by: ask [`wants_signal`] instead of it.
pub(super) fn add_used_together(
    queue: &mut Queue,
    memory: &Memory,
    chains: &[(u16, u32)],
) -> Result<(), QueueError> {
    let ring = GuestAddress(queue.used_ring());
    let mut next = queue.next_used();
    for &(head, length) in chains {
        if head >= queue.size() {
            return Err(Error::InvalidDescriptorIndex.into());
        }
        let offset = RING_HEADER + 8 * u64::from(next % queue.size());
        let mut entry = [0; 8];
        entry[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        entry[4..].copy_from_slice(&length.to_le_bytes());
        memory.write_slice(&entry, place(ring, offset)?).map_err(Error::GuestMemory)?;
        next = next.wrapping_add(1);
    }
    queue.set_next_used(next);
    let index = place(ring, INDEX)?;
    Ok(memory.store(next.to_le(), index, Ordering::Release).map_err(Error::GuestMemory)?)
}

/// Whether the driver waits for an interrupt after what was used since the used index was `before`
/// (section 2.7.7).
pub(super) fn wants_signal(
    queue: &Queue,
    memory: &Memory,
    before: u16,
) -> Result<bool, QueueError> {
    let next = queue.next_used();
    if next == before {
        return Ok(false);
    }
    // The entries must be visible before the driver's wish is read: it writes that, then looks.
    fence(Ordering::SeqCst);
    let ring = GuestAddress(queue.avail_ring());
    let load = |offset| -> Result<u16, QueueError> {
        let word = memory.load::<u16>(place(ring, offset)?, Ordering::Relaxed);
        Ok(u16::from_le(word.map_err(Error::GuestMemory)?))
    };
    if queue.event_idx_enabled() {
        let event = load(RING_HEADER + 2 * u64::from(queue.size()))?;
        return Ok(next.wrapping_sub(event).wrapping_sub(1) < next.wrapping_sub(before));
    }
    Ok(u32::from(load(0)?) & VRING_AVAIL_F_NO_INTERRUPT == 0)
}

fn place(ring: GuestAddress, offset: u64) -> Result<GuestAddress, Error> {
    ring.0.checked_add(offset).map(GuestAddress).ok_or(Error::AddressOverflow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::driver::Driver;

    #[test]
    fn several_chains_are_used_at_once_and_signalled_as_asked() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        for event_idx in [false, true] {
            driver.queue.set_event_idx(event_idx);
            let before = driver.queue.next_used();
            assert!(!wants_signal(&driver.queue, &memory, before).unwrap(), "nothing was used");
            add_used_together(&mut driver.queue, &memory, &[(5, 1), (6, 2), (5, 3)]).unwrap();
            assert_eq!(driver.used(), [1, 2, 3]);
            // The event index is 0: the first use passed it, the later ones did not.
            assert_eq!(
                wants_signal(&driver.queue, &memory, before).unwrap(),
                !event_idx || before == 0
            );
        }
    }

    #[test]
    fn a_head_outside_the_table_is_refused() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        add_used_together(&mut driver.queue, &memory, &[(Driver::SIZE, 1)]).unwrap_err();
        assert!(driver.used().is_empty());
    }
}
