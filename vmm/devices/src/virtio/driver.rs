//! The driver's half of one queue, for tests.
//!
//! It can do what a driver does, and a few things that none should.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::Memory;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Where the rings lie behind the descriptor table.
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const RINGS_LENGTH: usize = 0x3000;

/// One queue in the last pages of memory, and the device's end of it.
pub struct Driver<'m> {
    memory: &'m Memory,
    rings: u64,
    size: u16,
    /// The device's end.
    pub queue: Queue,
    next: u16,
    seen: u16,
}

impl<'m> Driver<'m> {
    /// Descriptors, unless another number is asked for.
    pub const SIZE: u16 = 128;

    /// Where queues are free to lie, one behind the other.
    pub const RINGS: u64 = 0x40_0000;

    /// The room that each of them needs.
    pub const RINGS_LENGTH: u64 = 0x3000;

    /// Five MiB from address zero; requests belong into the first four.
    pub fn memory() -> Memory {
        Memory::from_ranges(&[(GuestAddress(0), 5 << 20)]).unwrap()
    }

    /// A queue in the usual place.
    pub fn new(memory: &'m Memory) -> Self {
        Self::at(memory, Self::RINGS)
    }

    /// A queue whose rings lie elsewhere, for devices with several.
    pub fn at(memory: &'m Memory, rings: u64) -> Self {
        Self::with_size(memory, rings, Self::SIZE)
    }

    /// A queue of another size, up to 256.
    pub fn with_size(memory: &'m Memory, rings: u64, size: u16) -> Self {
        memory.write_slice(&[0; RINGS_LENGTH], GuestAddress(rings)).unwrap();
        let mut queue = Queue::new(size).unwrap();
        let [descriptors, available, used] = Self::places(rings).map(GuestAddress);
        queue.try_set_desc_table_address(descriptors).unwrap();
        queue.try_set_avail_ring_address(available).unwrap();
        queue.try_set_used_ring_address(used).unwrap();
        queue.set_ready(true);
        Self { memory, rings, size, queue, next: 0, seen: 0 }
    }

    /// Where its three parts lie: descriptor table, available ring, used ring.
    pub fn places(rings: u64) -> [u64; 3] {
        [rings, rings + AVAILABLE, rings + USED]
    }

    /// Offers a chain of (address, length, writable).
    pub fn offer(&mut self, parts: &[(u64, u32, bool)]) {
        let head = self.next % self.size;
        for (place, &(address, length, writable)) in parts.iter().enumerate() {
            let last = place + 1 == parts.len();
            let flags = if writable { WRITE } else { 0 } | if last { 0 } else { NEXT };
            let index = self.next % self.size;
            self.next = self.next.wrapping_add(1);
            self.store(index, Descriptor::new(address, length, flags, self.next % self.size));
        }
        self.offer_head(head);
    }

    /// Offers a descriptor that is its own successor.
    pub fn offer_loop(&mut self, address: u64, length: u32) {
        let head = self.next % self.size;
        self.next = self.next.wrapping_add(1);
        self.store(head, Descriptor::new(address, length, NEXT, head));
        self.offer_head(head);
    }

    /// Offers an indirect table of `entries`, each its own predecessor's successor, all one byte.
    pub fn offer_indirect_loop(&mut self, table: u64, entries: u16) {
        for entry in 0..entries {
            let descriptor = Descriptor::new(0x1000, 1, NEXT, entry + 1);
            let place = GuestAddress(table + 16 * u64::from(entry));
            self.memory.write_obj(RawDescriptor::from(descriptor), place).unwrap();
        }
        let head = self.next % self.size;
        self.next = self.next.wrapping_add(1);
        self.store(head, Descriptor::new(table, 16 * u32::from(entries), INDIRECT, 0));
        self.offer_head(head);
    }

    /// Puts any number into the available ring.
    pub fn offer_head(&mut self, head: u16) {
        let place = self.available_index_address();
        let index: u16 = self.memory.read_obj(place).unwrap();
        let entry = place.0 + 2 + 2 * u64::from(index % self.size);
        self.memory.write_obj(head, GuestAddress(entry)).unwrap();
        self.memory.write_obj(index.wrapping_add(1), place).unwrap();
    }

    /// Claims that so many chains are available.
    pub fn claim_available(&mut self, index: u16) {
        self.memory.write_obj(index, self.available_index_address()).unwrap();
    }

    /// Where the driver's index lies.
    pub fn available_index_address(&self) -> GuestAddress {
        GuestAddress(self.rings + AVAILABLE + 2)
    }

    /// Takes the next chain as the device would.
    pub fn pop(&mut self) -> DescriptorChain<&'m Memory> {
        self.queue.iter(self.memory).unwrap().next().unwrap()
    }

    /// The lengths of the chains used since the last call.
    pub fn used(&mut self) -> Vec<u32> {
        let ring = self.rings + USED;
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        let mut lengths = Vec::new();
        while self.seen != index {
            let entry = ring + 4 + 8 * u64::from(self.seen % self.size);
            lengths.push(self.memory.read_obj(GuestAddress(entry + 4)).unwrap());
            self.seen = self.seen.wrapping_add(1);
        }
        lengths
    }

    /// Asks for an interrupt once the device's index passes `index` (`used_event`).
    pub fn set_used_event(&self, index: u16) {
        let place = self.rings + AVAILABLE + 4 + 2 * u64::from(self.size);
        self.memory.write_obj(index, GuestAddress(place)).unwrap();
    }

    /// The available index at which the device wants a kick (`avail_event`).
    pub fn available_event(&self) -> u16 {
        let place = self.rings + USED + 4 + 8 * u64::from(self.size);
        self.memory.read_obj(GuestAddress(place)).unwrap()
    }

    /// Sets the available ring's flags: 1 asks for no interrupts.
    pub fn set_available_flags(&self, flags: u16) {
        self.memory.write_obj(flags, GuestAddress(self.rings + AVAILABLE)).unwrap();
    }

    /// The used ring's flags: 1 asks for no kicks.
    pub fn used_flags(&self) -> u16 {
        self.memory.read_obj(GuestAddress(self.rings + USED)).unwrap()
    }

    /// Writes any descriptor into the table.
    pub fn store(&self, index: u16, descriptor: Descriptor) {
        let place = GuestAddress(self.rings + 16 * u64::from(index));
        self.memory.write_obj(RawDescriptor::from(descriptor), place).unwrap();
    }
}
