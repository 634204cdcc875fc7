//! A device with its queues: what every transport operates.

use std::ops::Range;
use std::sync::atomic::Ordering;

use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use super::{Device, DeviceKind, Memory, QUEUES_MAX, Readiness};

/// Turns in a row that one event may cause, before other devices get theirs.
const ROUNDS: usize = 4;

/// A device that cannot be operated.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// More queues than there are bits for.
    #[error("the device has {0} queues, more than {QUEUES_MAX}")]
    TooManyQueues(usize),
    /// A queue of an impossible size.
    #[error("the device has a queue of {0} descriptors, which is no power of two up to 32768")]
    QueueSize(u16),
}

/// Why a queue cannot run as the driver has set it up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StartError {
    /// There is no queue of that index.
    #[error("there is no such queue")]
    NoQueue,
    /// There is no memory that it could lie in.
    #[error("there is no guest memory")]
    NoMemory,
    /// A part of it lies outside guest memory.
    #[error("a part of the queue lies outside guest memory")]
    OutsideMemory,
    /// Two of its parts overlap, or one overlaps another queue of the device.
    #[error("parts of the queue overlap")]
    Overlap,
}

/// What an event amounted to, for the transport to pass on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Ran {
    /// At least one chain was used.
    pub used: bool,
    /// Queues whose driver waits for an interrupt, by bit.
    pub signal: u32,
    /// Queues that turned out to be broken and are stopped until a reset, by bit.
    pub broken: u32,
    /// The configuration space has changed.
    pub config_changed: bool,
    /// The device has learnt that its driver is ready.
    pub activated: bool,
}

/// A virtqueue, frozen and walked while it runs.
struct Ring {
    queue: Queue,
    running: bool,
}

/// A device, its queues, and the memory that both lie in.
///
/// Driver-side changes ([`activate`](Self::activate), [`reset`](Self::reset)) take effect on the
/// queues at once, whichever thread they come from. The device itself learns of them when it is
/// next run, so that nothing but its configuration space is ever touched by another thread.
pub struct QueuedDevice {
    device: Box<dyn Device>,
    rings: Vec<Ring>,
    memory: Option<Memory>,
    features: u64,
    /// The driver is ready, as far as the transport knows.
    driven: bool,
    /// The driver is ready, as far as the device knows.
    active: bool,
    /// The device has yet to learn of a reset.
    reset_due: bool,
    /// Queues with work left, by bit.
    again: u32,
}

impl QueuedDevice {
    /// A device whose queues have the sizes that it names, or `size` for all of them.
    pub fn new(device: Box<dyn Device>, size: Option<u16>) -> Result<Self, DeviceError> {
        let sizes = device.queue_sizes();
        if sizes.len() > QUEUES_MAX {
            return Err(DeviceError::TooManyQueues(sizes.len()));
        }
        let ring = |&own: &u16| {
            let size = size.unwrap_or(own);
            let queue = Queue::new(size).map_err(|_| DeviceError::QueueSize(size))?;
            Ok(Ring { queue, running: false })
        };
        let rings = sizes.iter().map(ring).collect::<Result<_, _>>()?;
        Ok(Self {
            device,
            rings,
            memory: None,
            features: 0,
            driven: false,
            active: false,
            reset_due: false,
            again: 0,
        })
    }

    /// What the driver takes it for.
    pub fn kind(&self) -> DeviceKind {
        self.device.kind()
    }

    /// The feature bits offered.
    pub fn features(&self) -> u64 {
        self.device.features()
    }

    /// Fills `data` from the configuration space.
    pub fn read_config(&self, offset: u32, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    /// Passes a write to the configuration space on.
    pub fn write_config(&mut self, offset: u32, data: &[u8]) {
        self.device.write_config(offset, data);
    }

    /// Queues, running or not.
    pub fn queue_count(&self) -> usize {
        self.rings.len()
    }

    /// That queue.
    pub fn queue(&self, index: usize) -> Option<&Queue> {
        self.rings.get(index).map(|ring| &ring.queue)
    }

    /// That queue, to be set up: not while it runs.
    pub fn stopped_queue(&mut self, index: usize) -> Option<&mut Queue> {
        self.rings.get_mut(index).filter(|ring| !ring.running).map(|ring| &mut ring.queue)
    }

    /// Whether the queue is frozen, and walked once the driver is ready.
    pub fn is_running(&self, index: usize) -> bool {
        self.rings.get(index).is_some_and(|ring| ring.running)
    }

    /// Whether the driver is ready.
    pub fn is_driven(&self) -> bool {
        self.driven
    }

    /// The memory of all queues from now on.
    pub fn set_memory(&mut self, memory: Option<Memory>) {
        self.memory = memory;
    }

    /// The features that the driver has accepted.
    pub fn set_features(&mut self, features: u64) {
        self.features = features;
    }

    /// Freezes a queue as it is set up now, after a look at where it lies.
    pub fn start(&mut self, index: usize) -> Result<(), StartError> {
        let memory = self.memory.as_ref().ok_or(StartError::NoMemory)?;
        let ring = self.rings.get(index).ok_or(StartError::NoQueue)?;
        if ring.running {
            return Ok(());
        }
        let own = parts(&ring.queue);
        let others = self.rings.iter().filter(|ring| ring.running);
        let others: Vec<_> = others.flat_map(|ring| parts(&ring.queue)).collect();
        for (place, part) in own.iter().enumerate() {
            if own[..place].iter().chain(&others).any(|other| overlap(part, other)) {
                return Err(StartError::Overlap);
            }
        }
        let queue = &mut self.rings[index].queue;
        queue.set_ready(true);
        let used = queue.used_idx(memory, Ordering::Acquire);
        let (true, Ok(used)) = (queue.is_valid(memory), used) else {
            queue.set_ready(false);
            return Err(StartError::OutsideMemory);
        };
        queue.set_event_idx(self.features & 1 << VIRTIO_RING_F_EVENT_IDX != 0);
        queue.set_next_used(used.0);
        self.rings[index].running = true;
        // What is there already has no other trigger.
        self.again |= 1 << index;
        Ok(())
    }

    /// Walks the queue no more; its state stays.
    pub fn pause(&mut self, index: usize) {
        if let Some(ring) = self.rings.get_mut(index) {
            ring.running = false;
            ring.queue.set_ready(false);
            self.again &= !(1 << index);
        }
    }

    /// The driver is ready.
    pub fn activate(&mut self) {
        self.driven = true;
    }

    /// Forgets the driver: no queue is walked from now on, and none runs.
    pub fn reset(&mut self) {
        self.reset_device();
        for ring in &mut self.rings {
            ring.running = false;
            ring.queue.reset();
        }
        self.again = 0;
        self.features = 0;
    }

    /// Forgets the driver, but not how its queues were set up.
    pub fn reset_device(&mut self) {
        self.driven = false;
        self.reset_due |= self.active;
    }

    /// The driver kicked that queue.
    pub fn kick(&mut self, index: u32) -> Ran {
        let activated = self.settle();
        self.run(1_u32.checked_shl(index).unwrap_or(0), activated)
    }

    /// Something that the device watches is ready.
    pub fn handle_event(&mut self, token: u32, readiness: Readiness) -> Ran {
        let activated = self.settle();
        self.device.handle_event(token, readiness);
        self.run(self.device.ready_queues(), activated)
    }

    /// Whether queues wait for another turn, or the device for news of its driver.
    pub fn has_more(&self) -> bool {
        self.reset_due || self.driven != self.active || self.driven && self.again != 0
    }

    /// Gives them that turn, and one to the queues of `kicked`, by bit.
    pub fn run_again(&mut self, kicked: u32) -> Ran {
        let activated = self.settle();
        let mask = std::mem::take(&mut self.again) | kicked;
        self.run(mask, activated)
    }

    /// Tells the device what became of its driver; whether that is ready now and was not before.
    fn settle(&mut self) -> bool {
        if std::mem::take(&mut self.reset_due) {
            self.active = false;
            self.device.reset();
        }
        if self.active || !self.driven {
            return false;
        }
        self.active = true;
        self.device.activate(self.features);
        true
    }

    /// Serves the queues of `mask`, and those for which that brings work.
    fn run(&mut self, mut mask: u32, activated: bool) -> Ran {
        let mut ran = Ran { activated, ..Ran::default() };
        let mut idle = 0;
        for _ in 0..ROUNDS {
            for index in 0..self.rings.len() {
                // What used nothing waits for the driver, which will kick.
                if mask & 1 << index != 0 && !self.process(index, &mut ran) {
                    idle |= 1 << index;
                }
            }
            mask = self.device.ready_queues() & !idle & !self.again;
            if mask == 0 {
                break;
            }
        }
        self.again |= mask & self.running_queues();
        ran.config_changed = self.device.take_config_change();
        ran
    }

    /// Serves one queue for one turn; whether that used any chain.
    fn process(&mut self, index: usize, ran: &mut Ran) -> bool {
        let Some(memory) = &self.memory else { return false };
        let ring = &mut self.rings[index];
        if !self.active || !ring.running {
            return false;
        }
        match self.device.process(index, &mut ring.queue, memory) {
            Ok(served) => {
                ran.used |= served.used;
                ran.signal |= u32::from(served.signal) << index;
                self.again |= u32::from(served.more) << index;
                served.used
            }
            // The guest's own doing: the queue stays silent until the driver resets the device.
            Err(_) => {
                self.pause(index);
                ran.broken |= 1 << index;
                false
            }
        }
    }

    fn running_queues(&self) -> u32 {
        let running = self.rings.iter().enumerate().filter(|(_, ring)| ring.running);
        running.fold(0, |mask, (index, _)| mask | 1 << index)
    }
}

/// Where the three parts of a split queue lie (section 2.7), event indices included.
fn parts(queue: &Queue) -> [Range<u64>; 3] {
    let size = u64::from(queue.size());
    let part = |start: u64, length: u64| start..start.saturating_add(length);
    [
        part(queue.desc_table(), 16 * size),
        part(queue.avail_ring(), 6 + 2 * size),
        part(queue.used_ring(), 6 + 8 * size),
    ]
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Sets the parts of a stopped queue; false where one of them is not aligned (section 2.7).
pub fn place_queue(queue: &mut Queue, descriptors: u64, available: u64, used: u64) -> bool {
    queue
        .try_set_desc_table_address(GuestAddress(descriptors))
        .and_then(|()| queue.try_set_avail_ring_address(GuestAddress(available)))
        .and_then(|()| queue.try_set_used_ring_address(GuestAddress(used)))
        .is_ok()
}
