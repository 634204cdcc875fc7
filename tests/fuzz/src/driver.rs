//! A driver that knows the rules and breaks them, and the device that it drives.

use arbitrary::Arbitrary;
use husk_devices::virtio::{Device, Memory, Readiness};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::guest::{self, Part, Place};
use crate::table::Rings;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Turns that a queue gets for one kick: a driver cannot refill it here, so it runs empty.
const TURNS_MAX: usize = 1 << 10;

/// Rounds of host-side work for one event: each moves something, or the device spins.
const ROUNDS_MAX: usize = 1 << 10;

/// Where indirect tables lie, out of the way of the rings.
const TABLES: u64 = 0x4_f000;

/// What any driver can do to any device.
#[derive(Arbitrary, Clone, Debug)]
pub enum Action {
    /// Offers a chain as it should be done.
    Offer(u8, Vec<Part>),
    /// Offers a chain in an indirect table; the flag puts a table into the table.
    Indirect(u8, Vec<Part>, bool),
    /// Offers a descriptor that leads to any other, itself included.
    Knot(u8, Part, u8),
    /// Puts any head into the available ring.
    Head(u8, u16),
    /// Claims that the available ring has come so far.
    Claim(u8, u16),
    /// Writes anywhere: descriptors, rings, data.
    Poke(Place, [u8; 8]),
    /// Kicks a queue.
    Kick(u8),
    /// Host-side work is looked for.
    Poll,
    /// A descriptor became ready.
    Event(u8, bool, bool),
    /// Reads configuration space.
    Read(u32, u8),
    /// Writes to it.
    Write(u32, [u8; 4]),
    /// Resets the device, with its rings where they belong; with or without event indices.
    Reset(bool),
    /// Resets the device and puts the rings of a queue elsewhere, of that size.
    Move(u8, [Place; 3], u16),
}

/// A device, its queues, and the driver's place in them.
pub struct Driver<D> {
    /// The device.
    pub device: D,
    queues: Vec<Queue>,
    next: Vec<u16>,
    broken: Vec<bool>,
    /// Where the device's used ring was last read.
    seen: Vec<u16>,
    event_idx: bool,
}

impl<D: Device> Driver<D> {
    /// Brings up `device` with clean memory and all rings in their places.
    pub fn new(device: D) -> Self {
        guest::clear();
        let count = device.queue_sizes().len();
        let mut driver = Self {
            device,
            queues: Vec::new(),
            next: vec![0; count],
            broken: vec![false; count],
            seen: vec![0; count],
            event_idx: false,
        };
        driver.set_up();
        driver
    }

    /// The guest's memory.
    pub fn memory(&self) -> &'static Memory {
        guest::memory()
    }

    /// Does one action.
    pub fn act(&mut self, action: &Action) {
        match action {
            Action::Offer(queue, parts) => self.offer(self.index(*queue), parts),
            Action::Indirect(queue, parts, nested) => {
                self.offer_indirect(self.index(*queue), parts, *nested);
            }
            Action::Knot(queue, part, next) => self.knot(self.index(*queue), part, *next),
            Action::Head(queue, head) => self.offer_head(self.index(*queue), *head),
            Action::Claim(queue, index) => {
                let place = GuestAddress(Rings::of(self.index(*queue)).available + 2);
                self.memory().write_obj(*index, place).expect("rings are in memory");
            }
            Action::Poke(place, bytes) => {
                // Outside memory there is nothing to write to.
                let _ = self.memory().write(bytes, GuestAddress(place.address()));
            }
            Action::Kick(queue) => self.kick(self.index(*queue)),
            Action::Poll => self.poll(),
            Action::Event(token, readable, writable) => {
                let readiness = Readiness { readable: *readable, writable: *writable };
                let token = if *token == u8::MAX { u32::MAX } else { u32::from(*token) };
                self.device.handle_event(token, readiness);
                self.poll();
            }
            Action::Read(offset, length) => {
                let mut bytes = [0xa5; 256];
                self.device.read_config(*offset, &mut bytes[..usize::from(*length)]);
            }
            Action::Write(offset, bytes) => self.device.write_config(*offset, bytes),
            Action::Reset(event_idx) => {
                self.event_idx = *event_idx;
                self.reset();
            }
            Action::Move(queue, places, size) => {
                let index = self.index(*queue);
                self.reset();
                self.move_rings(index, *places, *size);
            }
        }
    }

    /// A queue that exists.
    fn index(&self, queue: u8) -> usize {
        usize::from(queue) % self.queues.len()
    }

    fn reset(&mut self) {
        self.device.reset();
        self.set_up();
    }

    fn set_up(&mut self) {
        let sizes = self.device.queue_sizes().to_vec();
        self.queues = sizes
            .iter()
            .enumerate()
            .map(|(index, &size)| {
                let mut queue = Queue::new(size).expect("devices name powers of two");
                let rings = Rings::of(index);
                place(&mut queue, [rings.descriptors, rings.available, rings.used]);
                queue.set_event_idx(self.event_idx);
                self.memory()
                    .write_slice(&[0; 0x1000], GuestAddress(rings.descriptors))
                    .expect("memory");
                queue
            })
            .collect();
        self.next.fill(0);
        self.seen.fill(0);
        self.broken.fill(false);
        self.device.activate(self.device.features());
    }

    /// As a transport does it: what is no ring never becomes ready.
    fn move_rings(&mut self, index: usize, places: [Place; 3], size: u16) {
        let queue = &mut self.queues[index];
        queue.set_ready(false);
        queue.set_size(size);
        place(queue, places.map(Place::address));
        if !queue.is_valid(guest::memory()) {
            queue.set_ready(false);
        }
    }

    fn size(&self, index: usize) -> u16 {
        self.queues[index].size()
    }

    /// Offers a chain of those parts.
    pub fn offer(&mut self, index: usize, parts: &[Part]) {
        let flat: Vec<_> = parts
            .iter()
            .map(|part| (part.place.address(), part.length.bytes(), part.writable))
            .collect();
        self.offer_at(index, &flat);
    }

    /// Offers a chain of (address, length, writable).
    pub fn offer_at(&mut self, index: usize, parts: &[(u64, u32, bool)]) {
        let size = self.size(index);
        let head = self.next[index] % size;
        for (place, &(address, length, writable)) in parts.iter().take(size.into()).enumerate() {
            let last = place + 1 == parts.len();
            let flags = if writable { WRITE } else { 0 } | if last { 0 } else { NEXT };
            let slot = self.next[index] % size;
            self.next[index] = self.next[index].wrapping_add(1);
            self.store(index, slot, Descriptor::new(address, length, flags, (slot + 1) % size));
        }
        self.offer_head(index, head);
    }

    fn offer_indirect(&mut self, index: usize, parts: &[Part], nested: bool) {
        let table = TABLES + 0x200 * (index as u64 % 8);
        let count = parts.len().min(32);
        for (place, part) in parts.iter().take(count).enumerate() {
            let flags = if part.writable { WRITE } else { 0 }
                | if place + 1 == count { 0 } else { NEXT }
                | if nested && place == 1 { INDIRECT } else { 0 };
            let next = u16::try_from(place + 1).expect("at most 32");
            let descriptor =
                Descriptor::new(part.place.address(), part.length.bytes(), flags, next);
            let place = GuestAddress(table + 16 * place as u64);
            self.memory().write_obj(RawDescriptor::from(descriptor), place).expect("memory");
        }
        let length = 16 * u32::try_from(count).expect("at most 32");
        let slot = self.next[index] % self.size(index);
        self.next[index] = self.next[index].wrapping_add(1);
        self.store(index, slot, Descriptor::new(table, length, INDIRECT, 0));
        self.offer_head(index, slot);
    }

    fn knot(&mut self, index: usize, part: &Part, next: u8) {
        let size = self.size(index);
        let slot = self.next[index] % size;
        self.next[index] = self.next[index].wrapping_add(1);
        let flags = NEXT | if part.writable { WRITE } else { 0 };
        let next = u16::from(next) % size;
        let descriptor = Descriptor::new(part.place.address(), part.length.bytes(), flags, next);
        self.store(index, slot, descriptor);
        self.offer_head(index, slot);
    }

    fn offer_head(&mut self, index: usize, head: u16) {
        let rings = Rings::of(index);
        let place = GuestAddress(rings.available + 2);
        let count: u16 = self.memory().read_obj(place).expect("rings are in memory");
        let entry = rings.available + 4 + 2 * u64::from(count % self.size(index));
        self.memory().write_obj(head, GuestAddress(entry)).expect("rings are in memory");
        self.memory().write_obj(count.wrapping_add(1), place).expect("rings are in memory");
    }

    fn store(&self, index: usize, slot: u16, descriptor: Descriptor) {
        let place = Rings::of(index).descriptors + 16 * u64::from(slot);
        self.memory()
            .write_obj(RawDescriptor::from(descriptor), GuestAddress(place))
            .expect("rings are in memory");
    }

    /// Gives a queue all the turns it wants.
    pub fn kick(&mut self, index: usize) {
        for _ in 0..TURNS_MAX {
            if !self.turn(index) {
                return;
            }
        }
        panic!("queue {index} wants turns without end, and nobody refills it");
    }

    /// One turn; whether there is more to do.
    fn turn(&mut self, index: usize) -> bool {
        if self.broken[index] || !self.queues[index].ready() {
            return false;
        }
        match self.device.process(index, &mut self.queues[index], guest::memory()) {
            Ok(served) => served.more,
            Err(_) => {
                self.broken[index] = true;
                false
            }
        }
    }

    /// Does what the host side has to do, until nothing moves any more.
    pub fn poll(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let ready = self.device.ready_queues();
            let mut moved = false;
            for index in (0..self.queues.len()).filter(|index| ready >> index & 1 == 1) {
                if self.broken[index] || !self.queues[index].ready() {
                    continue;
                }
                let queue = &mut self.queues[index];
                match self.device.process(index, queue, guest::memory()) {
                    Ok(served) => moved |= served.used || served.more,
                    Err(_) => self.broken[index] = true,
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the device finds work without end, and nobody brings it any");
    }

    /// Whether a queue was given up.
    pub fn is_broken(&self, index: usize) -> bool {
        self.broken[index]
    }

    /// Heads and lengths of the chains used since the last call, at most a ring of them.
    pub fn used(&mut self, index: usize) -> Vec<(u32, u32)> {
        let (ring, size) = (Rings::of(index).used, self.size(index));
        let end: u16 = self.memory().read_obj(GuestAddress(ring + 2)).expect("memory");
        let mut chains = Vec::new();
        while self.seen[index] != end && chains.len() < usize::from(size) {
            let entry = ring + 4 + 8 * u64::from(self.seen[index] % size);
            let head = self.memory().read_obj(GuestAddress(entry)).expect("memory");
            let length = self.memory().read_obj(GuestAddress(entry + 4)).expect("memory");
            chains.push((head, length));
            self.seen[index] = self.seen[index].wrapping_add(1);
        }
        self.seen[index] = end;
        chains
    }
}

/// Sets the addresses that a queue takes, and declares it ready.
fn place(queue: &mut Queue, [descriptors, available, used]: [u64; 3]) {
    let _ = queue.try_set_desc_table_address(GuestAddress(descriptors));
    let _ = queue.try_set_avail_ring_address(GuestAddress(available));
    let _ = queue.try_set_used_ring_address(GuestAddress(used));
    queue.set_ready(true);
}
