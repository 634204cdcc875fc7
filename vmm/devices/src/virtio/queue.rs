//! Walking a virtqueue so that no driver can keep the thread for ever.

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};

use super::Memory;
use super::used::wants_signal;

/// Chains of one turn: a driver that refills its queue while it is served waits for the others.
const TURN: usize = 256;

/// A queue that cannot be walked: its rings lie outside memory or contradict themselves.
#[derive(Debug, thiserror::Error)]
#[error("failed to walk the virtqueue")]
pub struct QueueError(#[from] virtio_queue::Error);

/// What became of one chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serve {
    /// It is used up, with so many bytes written to it.
    Done(u32),
    /// It goes back, and the turn ends: there is nothing to do for this queue now.
    Stop,
}

/// What became of one turn.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Served {
    /// At least one chain was used.
    pub used: bool,
    /// The driver waits for an interrupt.
    pub signal: bool,
    /// Chains are left: the queue wants another turn without a kick.
    pub more: bool,
}

/// Gives every available chain to `handle`, one turn's worth of them.
///
/// Used chains are signalled together, once for the turn. Kicks are asked for only when the queue
/// has run empty: after [`Serve::Stop`] it is the host side that must bring the next turn.
pub fn serve<'m>(
    queue: &mut Queue,
    memory: &'m Memory,
    mut handle: impl FnMut(DescriptorChain<&'m Memory>) -> Serve,
) -> Result<Served, QueueError> {
    let start = queue.next_used();
    let mut left = TURN;
    let mut used = false;
    let mut more = false;
    queue.disable_notification(memory)?;
    'turn: loop {
        let before = left;
        while let Some(chain) = queue.iter(memory)?.next() {
            let head = chain.head_index();
            match handle(chain) {
                Serve::Done(length) => {
                    queue.add_used(memory, head, length)?;
                    used = true;
                }
                Serve::Stop => {
                    queue.go_to_previous_position();
                    break 'turn;
                }
            }
            left -= 1;
            if left == 0 {
                more = true;
                break 'turn;
            }
        }
        // Without progress, a second look would find the same unreadable ring again.
        if !queue.enable_notification(memory)? || before == left {
            break;
        }
        queue.disable_notification(memory)?;
    }
    Ok(Served { used, signal: wants_signal(queue, memory, start)?, more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::driver::Driver;

    #[test]
    fn all_chains_of_a_batch_are_used_and_signalled_once() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        for _ in 0..5 {
            driver.offer(&[(0x1000, 16, false)]);
        }
        let mut seen = 0;
        let served = serve(&mut driver.queue, &memory, |_| {
            seen += 1;
            Serve::Done(7)
        });
        assert_eq!(served.unwrap(), Served { used: true, signal: true, more: false });
        assert_eq!(seen, 5);
        assert_eq!(driver.used(), [7; 5]);
    }

    #[test]
    fn a_chain_put_back_comes_again() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer(&[(0x1000, 16, false)]);
        for _ in 0..2 {
            let mut seen = 0;
            let served = serve(&mut driver.queue, &memory, |_| {
                seen += 1;
                Serve::Stop
            });
            assert_eq!(served.unwrap(), Served::default());
            assert_eq!(seen, 1);
        }
        assert!(driver.used().is_empty());
    }

    #[test]
    fn an_available_index_beyond_the_queue_breaks_it() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.claim_available(u16::MAX / 2);
        serve(&mut driver.queue, &memory, |_| Serve::Done(0)).unwrap_err();
    }

    #[test]
    fn a_head_outside_the_table_breaks_the_queue() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer_head(40_000);
        serve(&mut driver.queue, &memory, |_| Serve::Done(0)).unwrap_err();
    }

    #[test]
    fn a_driver_that_refills_while_served_has_to_wait() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer(&[(0x1000, 16, false)]);
        let avail = driver.available_index_address();
        let mut seen = 0_u16;
        let served = serve(&mut driver.queue, &memory, |_| {
            seen += 1;
            vm_memory::Bytes::write_obj(&memory, seen + 1, avail).unwrap();
            Serve::Done(0)
        });
        assert!(served.unwrap().more);
        assert_eq!(usize::from(seen), TURN);
    }
}
