//! The driver's half of one queue, for tests.

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
pub(crate) struct Driver<'m> {
    memory: &'m Memory,
    rings: u64,
    pub(crate) queue: Queue,
    next: u16,
    seen: u16,
}

impl<'m> Driver<'m> {
    pub(crate) const SIZE: u16 = 128;
    const RINGS: u64 = 0x40_0000;

    /// Five MiB from address zero; requests belong into the first four.
    pub(crate) fn memory() -> Memory {
        Memory::from_ranges(&[(GuestAddress(0), 5 << 20)]).unwrap()
    }

    pub(crate) fn new(memory: &'m Memory) -> Self {
        Self::at(memory, Self::RINGS)
    }

    /// A queue whose rings lie elsewhere, for devices with several.
    pub(crate) fn at(memory: &'m Memory, rings: u64) -> Self {
        memory.write_slice(&[0; RINGS_LENGTH], GuestAddress(rings)).unwrap();
        let mut queue = Queue::new(Self::SIZE).unwrap();
        queue.try_set_desc_table_address(GuestAddress(rings)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(rings + AVAILABLE)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(rings + USED)).unwrap();
        queue.set_ready(true);
        Self { memory, rings, queue, next: 0, seen: 0 }
    }

    /// Offers a chain of (address, length, writable).
    pub(crate) fn offer(&mut self, parts: &[(u64, u32, bool)]) {
        let head = self.next % Self::SIZE;
        for (place, &(address, length, writable)) in parts.iter().enumerate() {
            let last = place + 1 == parts.len();
            let flags = if writable { WRITE } else { 0 } | if last { 0 } else { NEXT };
            let index = self.next % Self::SIZE;
            self.next = self.next.wrapping_add(1);
            self.store(index, Descriptor::new(address, length, flags, self.next % Self::SIZE));
        }
        self.offer_head(head);
    }

    /// Offers a descriptor that is its own successor.
    pub(crate) fn offer_loop(&mut self, address: u64, length: u32) {
        let head = self.next % Self::SIZE;
        self.next = self.next.wrapping_add(1);
        self.store(head, Descriptor::new(address, length, NEXT, head));
        self.offer_head(head);
    }

    /// Offers an indirect table of `entries`, each its own predecessor's successor, all one byte.
    pub(crate) fn offer_indirect_loop(&mut self, table: u64, entries: u16) {
        for entry in 0..entries {
            let descriptor = Descriptor::new(0x1000, 1, NEXT, entry + 1);
            let place = GuestAddress(table + 16 * u64::from(entry));
            self.memory.write_obj(RawDescriptor::from(descriptor), place).unwrap();
        }
        let head = self.next % Self::SIZE;
        self.next = self.next.wrapping_add(1);
        self.store(head, Descriptor::new(table, 16 * u32::from(entries), INDIRECT, 0));
        self.offer_head(head);
    }

    /// Puts any number into the available ring.
    pub(crate) fn offer_head(&mut self, head: u16) {
        let place = self.available_index_address();
        let index: u16 = self.memory.read_obj(place).unwrap();
        let entry = place.0 + 2 + 2 * u64::from(index % Self::SIZE);
        self.memory.write_obj(head, GuestAddress(entry)).unwrap();
        self.memory.write_obj(index.wrapping_add(1), place).unwrap();
    }

    /// Claims that so many chains are available.
    pub(crate) fn claim_available(&mut self, index: u16) {
        self.memory.write_obj(index, self.available_index_address()).unwrap();
    }

    pub(crate) fn available_index_address(&self) -> GuestAddress {
        GuestAddress(self.rings + AVAILABLE + 2)
    }

    /// Takes the next chain as the device would.
    pub(crate) fn pop(&mut self) -> DescriptorChain<&'m Memory> {
        self.queue.iter(self.memory).unwrap().next().unwrap()
    }

    /// The lengths of the chains used since the last call.
    pub(crate) fn used(&mut self) -> Vec<u32> {
        let ring = self.rings + USED;
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        let mut lengths = Vec::new();
        while self.seen != index {
            let entry = ring + 4 + 8 * u64::from(self.seen % Self::SIZE);
            lengths.push(self.memory.read_obj(GuestAddress(entry + 4)).unwrap());
            self.seen = self.seen.wrapping_add(1);
        }
        lengths
    }

    fn store(&self, index: u16, descriptor: Descriptor) {
        let place = GuestAddress(self.rings + 16 * u64::from(index));
        self.memory.write_obj(RawDescriptor::from(descriptor), place).unwrap();
    }
}
