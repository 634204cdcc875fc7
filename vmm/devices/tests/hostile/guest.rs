//! A guest with one device behind the MMIO transport: it knows the rules, and any register and
//! any byte of memory is its to write.
//!
//! Register accesses and the device thread's calls happen on one thread here, in the order that
//! the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use husk_devices::Interrupt;
use husk_devices::mmio::Transport;
use husk_devices::virtio::{Device, Memory, Readiness};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

/// The registers of section 4.2.2.
pub(crate) mod register {
    pub(crate) const DEVICE_FEATURES: u64 = 0x10;
    pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub(crate) const DRIVER_FEATURES: u64 = 0x20;
    pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub(crate) const QUEUE_SEL: u64 = 0x30;
    pub(crate) const QUEUE_NUM_MAX: u64 = 0x34;
    pub(crate) const QUEUE_NUM: u64 = 0x38;
    pub(crate) const QUEUE_READY: u64 = 0x44;
    pub(crate) const QUEUE_NOTIFY: u64 = 0x50;
    pub(crate) const INTERRUPT_STATUS: u64 = 0x60;
    pub(crate) const INTERRUPT_ACK: u64 = 0x64;
    pub(crate) const STATUS: u64 = 0x70;
    pub(crate) const QUEUE_DESC: u64 = 0x80;
    pub(crate) const QUEUE_AVAIL: u64 = 0x90;
    pub(crate) const QUEUE_USED: u64 = 0xa0;
    pub(crate) const CONFIG_GENERATION: u64 = 0xfc;
    pub(crate) const CONFIG: u64 = 0x100;
}

/// Values of the status register.
pub(crate) mod status {
    pub(crate) const DRIVER_OK: u32 = 4;
    pub(crate) const FEATURES_OK: u32 = 8;
    pub(crate) const NEEDS_RESET: u32 = 0x40;
    /// The way up, one write after the other.
    pub(crate) const STAGES: [u32; 4] = [1, 3, 11, 15];
    pub(crate) const LIVE: u32 = 15;
}

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Where the rings of queue 0 lie; each queue takes a stride.
pub(crate) const RINGS: u64 = 0x30_0000;
pub(crate) const STRIDE: u64 = 0x4000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;

/// Descriptors of a queue here, if the device allows as many.
const SIZE_MAX: u32 = 256;

/// Turns that all work of one event takes at most: no driver here refills what is being served.
const TURNS_MAX: usize = 1 << 12;

/// Edges that were sent.
#[derive(Clone, Default)]
pub(crate) struct Edges(Arc<AtomicUsize>);

impl Interrupt for Edges {
    fn raise(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Edges {
    /// How many so far.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// The driver's place in one queue.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    size: u16,
    next: u16,
    offered: u16,
    seen: u16,
}

/// A guest.
pub(crate) struct Guest {
    pub(crate) transport: Arc<Transport>,
    pub(crate) memory: Memory,
    pub(crate) interrupts: Edges,
    cursors: Vec<Cursor>,
}

/// Four MiB from address zero, a hole, and one MiB more; requests belong into the first three.
pub(crate) fn memory() -> Memory {
    let ranges = [(GuestAddress(0), 4 << 20), (GuestAddress(8 << 20), 1 << 20)];
    Memory::from_ranges(&ranges).expect("the regions are apart")
}

impl Guest {
    /// A guest that has not touched its device yet.
    pub(crate) fn new(device: Box<dyn Device>, memory: Memory) -> Self {
        let interrupts = Edges::default();
        let thread = Box::new(Edges::default());
        let transport =
            Transport::new(device, memory.clone(), Box::new(interrupts.clone()), thread);
        let transport = Arc::new(transport.expect("the device is one"));
        let cursors = vec![Cursor::default(); transport.queue_count()];
        Self { transport, memory, interrupts, cursors }
    }

    /// A guest whose device is live.
    pub(crate) fn live(device: Box<dyn Device>, memory: Memory) -> Self {
        let mut guest = Self::new(device, memory);
        guest.bring_up();
        guest
    }

    pub(crate) fn queue_count(&self) -> usize {
        self.cursors.len()
    }

    pub(crate) fn read(&self, register: u64) -> u32 {
        let mut bytes = [0; 4];
        self.transport.read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn write(&self, register: u64, value: u32) {
        self.transport.write(register, &value.to_le_bytes());
    }

    pub(crate) fn status(&self) -> u32 {
        self.read(register::STATUS)
    }

    /// Whether the device waits for a reset.
    pub(crate) fn needs_reset(&self) -> bool {
        self.status() & status::NEEDS_RESET != 0
    }

    /// Resets the device and lets it learn of that.
    pub(crate) fn reset(&mut self) {
        self.write(register::STATUS, 0);
        self.serve();
        self.cursors.fill(Cursor::default());
    }

    /// Climbs to the stage of that number, 0 being a device that was not touched. All features are
    /// accepted, and queues set up before the last.
    pub(crate) fn climb(&mut self, stage: usize) {
        for (place, &value) in status::STAGES[..stage].iter().enumerate() {
            if value & status::FEATURES_OK != 0 && value & status::DRIVER_OK == 0 {
                self.accept_features();
            }
            if value & status::DRIVER_OK != 0 {
                (0..self.queue_count()).for_each(|index| self.set_up(index));
            }
            self.write(register::STATUS, value);
            assert_eq!(self.status(), value, "stage {place} is refused");
        }
    }

    /// From wherever it is to a live device with all queues in their places.
    pub(crate) fn bring_up(&mut self) {
        self.reset();
        self.climb(4);
        self.serve();
    }

    fn accept_features(&self) {
        for word in 0..2 {
            self.write(register::DEVICE_FEATURES_SEL, word);
            let features = self.read(register::DEVICE_FEATURES);
            self.write(register::DRIVER_FEATURES_SEL, word);
            self.write(register::DRIVER_FEATURES, features);
        }
    }

    /// Puts a queue where it belongs.
    pub(crate) fn set_up(&mut self, index: usize) {
        let size = self.size_max(index).min(SIZE_MAX);
        let start = Self::rings(index);
        let zeros = [0; 0x4000];
        self.memory.write_slice(&zeros, GuestAddress(start)).expect("rings are in memory");
        let size = u16::try_from(size).expect("bounded");
        self.cursors[index] = Cursor { size, ..Cursor::default() };
        assert!(self.place(index, size.into(), start, start + AVAILABLE, start + USED));
    }

    /// Describes a queue to the device; whether it starts.
    pub(crate) fn place(
        &self,
        index: usize,
        size: u32,
        table: u64,
        available: u64,
        used: u64,
    ) -> bool {
        self.write(register::QUEUE_SEL, u32::try_from(index).expect("few queues"));
        self.write(register::QUEUE_NUM, size);
        for (register, address) in [
            (register::QUEUE_DESC, table),
            (register::QUEUE_AVAIL, available),
            (register::QUEUE_USED, used),
        ] {
            self.write(register, u32::try_from(address & 0xffff_ffff).expect("32 bits"));
            self.write(register + 4, u32::try_from(address >> 32).expect("32 bits"));
        }
        self.write(register::QUEUE_READY, 1);
        self.read(register::QUEUE_READY) == 1
    }

    pub(crate) fn size_max(&self, index: usize) -> u32 {
        self.write(register::QUEUE_SEL, u32::try_from(index).expect("few queues"));
        self.read(register::QUEUE_NUM_MAX)
    }

    /// Entries of a queue that was set up.
    pub(crate) fn size(&self, index: usize) -> u16 {
        self.cursors[index].size
    }

    /// Where the rings of a queue lie: table, available and used ring.
    pub(crate) fn rings(index: usize) -> u64 {
        RINGS + STRIDE * index as u64
    }

    pub(crate) fn available(index: usize) -> u64 {
        Self::rings(index) + AVAILABLE
    }

    pub(crate) fn used_ring(index: usize) -> u64 {
        Self::rings(index) + USED
    }

    /// Offers a chain of (address, length, writable); returns its head.
    pub(crate) fn offer(&mut self, index: usize, parts: &[(u64, u32, bool)]) -> u16 {
        let size = self.cursors[index].size;
        let head = self.cursors[index].next % size;
        for (place, &(address, length, writable)) in parts.iter().enumerate() {
            let last = place + 1 == parts.len();
            let flags = if writable { WRITE } else { 0 } | if last { 0 } else { NEXT };
            self.descriptor(index, address, length, flags);
        }
        self.offer_head(index, head);
        head
    }

    /// Writes the next descriptor of a queue, followed by the one after it; returns its place.
    pub(crate) fn descriptor(
        &mut self,
        index: usize,
        address: u64,
        length: u32,
        flags: u16,
    ) -> u16 {
        let cursor = &mut self.cursors[index];
        let place = cursor.next % cursor.size;
        cursor.next = cursor.next.wrapping_add(1);
        let next = (place + 1) % cursor.size;
        self.store(index, place, Descriptor::new(address, length, flags, next));
        place
    }

    /// Writes any descriptor into the table of a queue.
    pub(crate) fn store(&self, index: usize, place: u16, descriptor: Descriptor) {
        self.store_at(Self::rings(index) + 16 * u64::from(place), descriptor);
    }

    /// Writes a descriptor anywhere.
    pub(crate) fn store_at(&self, address: u64, descriptor: Descriptor) {
        let raw = RawDescriptor::from(descriptor);
        self.memory.write_obj(raw, GuestAddress(address)).expect("tables are in memory");
    }

    /// Puts any head into the available ring.
    pub(crate) fn offer_head(&mut self, index: usize, head: u16) {
        let ring = Self::available(index);
        let cursor = &mut self.cursors[index];
        let entry = ring + 4 + 2 * u64::from(cursor.offered % cursor.size);
        cursor.offered = cursor.offered.wrapping_add(1);
        self.memory.write_obj(head, GuestAddress(entry)).expect("rings are in memory");
        self.claim(index, self.cursors[index].offered);
    }

    /// Claims that the available ring has come so far.
    pub(crate) fn claim(&self, index: usize, count: u16) {
        let place = GuestAddress(Self::available(index) + 2);
        self.memory.write_obj(count, place).expect("rings are in memory");
    }

    /// Kicks a queue and lets the device work until it has nothing left to do.
    pub(crate) fn kick(&self, index: usize) {
        self.write(register::QUEUE_NOTIFY, u32::try_from(index).expect("few queues"));
        self.serve();
    }

    /// Lets the device work until it has nothing left to do.
    pub(crate) fn serve(&self) {
        for _ in 0..TURNS_MAX {
            if !self.transport.has_more() {
                return;
            }
            let _ = self.transport.run_again();
        }
        panic!("the device wants turns without end, and nobody brings it work");
    }

    /// A descriptor that the device watches is ready both ways.
    pub(crate) fn event(&self, token: u32) {
        let readiness = Readiness { readable: true, writable: true };
        let _ = self.transport.handle_event(token, readiness);
        self.serve();
    }

    /// Heads and lengths of the chains used since the last call.
    pub(crate) fn used(&mut self, index: usize) -> Vec<(u32, u32)> {
        let ring = Self::used_ring(index);
        let end: u16 = self.memory.read_obj(GuestAddress(ring + 2)).expect("memory");
        let cursor = &mut self.cursors[index];
        let mut chains = Vec::new();
        while cursor.seen != end {
            let entry = ring + 4 + 8 * u64::from(cursor.seen % cursor.size);
            let head = self.memory.read_obj(GuestAddress(entry)).expect("memory");
            let length = self.memory.read_obj(GuestAddress(entry + 4)).expect("memory");
            chains.push((head, length));
            cursor.seen = cursor.seen.wrapping_add(1);
        }
        chains
    }

    /// All bytes of a stretch of memory.
    pub(crate) fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).expect("it is in memory");
        bytes
    }

    /// Writes bytes to memory.
    pub(crate) fn put(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).expect("it is in memory");
    }
}
