//! A driver at the registers of a device, for tests.
//!
//! [`MmioDriver`] brings a device up as a good driver does; every register is open to a hostile
//! one. There is no device thread: [`MmioDriver::settle`] and [`MmioDriver::kick`] do its work.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_mmio as reg;

use super::Transport;
use crate::Interrupt;
use crate::virtio::driver::Driver;
use crate::virtio::{Device, Memory, Ran};

/// The status of each stage of the initialisation.
pub mod stage {
    /// The driver has found the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// It knows how to drive it.
    pub const DRIVER: u32 = 3;
    /// The features are fixed.
    pub const FEATURES_OK: u32 = 11;
    /// The device is live.
    pub const DRIVER_OK: u32 = 15;
    /// The device wants a reset, in addition to any of them.
    pub const NEEDS_RESET: u32 = 64;
    /// The driver has given up, in addition to any of them.
    pub const FAILED: u32 = 128;
}

/// Counts the edges of a line.
#[derive(Clone, Debug, Default)]
pub struct Edges(Arc<AtomicUsize>);

impl Edges {
    /// Edges since the last call.
    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Interrupt for Edges {
    fn raise(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A device on the bus, and what happens around it.
pub struct MmioDriver<'m> {
    /// The registers.
    pub transport: Arc<Transport>,
    /// Interrupts of the driver.
    pub interrupts: Edges,
    /// Wake-ups of the device thread.
    pub wakes: Edges,
    memory: &'m Memory,
}

impl<'m> MmioDriver<'m> {
    /// A device that nobody has touched yet. Queues fit into what
    /// [`Driver::memory`] makes, or any memory that is there from [`Driver::RINGS`] on.
    pub fn new(device: Box<dyn Device>, memory: &'m Memory) -> Self {
        let (interrupts, wakes) = (Edges::default(), Edges::default());
        let lines = (Box::new(interrupts.clone()), Box::new(wakes.clone()));
        let transport = Transport::new(device, memory.clone(), lines.0, lines.1).unwrap();
        Self { interrupts, wakes, ..Self::over(Arc::new(transport), memory) }
    }

    /// A device that has lines of its own, and maybe a thread.
    pub fn over(transport: Arc<Transport>, memory: &'m Memory) -> Self {
        Self { transport, interrupts: Edges::default(), wakes: Edges::default(), memory }
    }

    /// A live device that has accepted `features` besides version 1, and the drivers of all its
    /// queues, each as large as it can be.
    pub fn live(
        device: Box<dyn Device>,
        memory: &'m Memory,
        features: u64,
    ) -> (Self, Vec<Driver<'m>>) {
        let driver = Self::new(device, memory);
        let queues = driver.bring_up(features);
        (driver, queues)
    }

    /// All of the initialisation of section 3.1.1.
    pub fn bring_up(&self, features: u64) -> Vec<Driver<'m>> {
        self.negotiate(features);
        let count = u32::try_from(self.transport.queue_count()).unwrap();
        let queues = (0..count).map(|index| self.set_up_queue(index)).collect();
        self.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER_OK);
        assert_eq!(self.status(), stage::DRIVER_OK);
        self.settle();
        queues
    }

    /// The initialisation until the features are fixed.
    pub fn negotiate(&self, features: u64) {
        self.write(reg::VIRTIO_MMIO_STATUS, 0);
        self.settle();
        self.write(reg::VIRTIO_MMIO_STATUS, stage::ACKNOWLEDGE);
        self.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER);
        self.accept(features | 1 << VIRTIO_F_VERSION_1);
        self.write(reg::VIRTIO_MMIO_STATUS, stage::FEATURES_OK);
        assert_eq!(self.status(), stage::FEATURES_OK);
    }

    /// Writes the features to accept, whatever was offered.
    pub fn accept(&self, features: u64) {
        for (index, word) in [(0, features & 0xffff_ffff), (1, features >> 32)] {
            self.write(reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, index);
            self.write(reg::VIRTIO_MMIO_DRIVER_FEATURES, u32::try_from(word).unwrap());
        }
    }

    /// The features offered.
    pub fn offered(&self) -> u64 {
        let word = |index| {
            self.write(reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL, index);
            u64::from(self.read(reg::VIRTIO_MMIO_DEVICE_FEATURES))
        };
        word(0) | word(1) << 32
    }

    /// Sets a queue up in a place of its own, and makes it ready.
    pub fn set_up_queue(&self, index: u32) -> Driver<'m> {
        self.write(reg::VIRTIO_MMIO_QUEUE_SEL, index);
        let size = self.read(reg::VIRTIO_MMIO_QUEUE_NUM_MAX);
        let rings = Driver::RINGS + Driver::RINGS_LENGTH * u64::from(index);
        let queue = Driver::with_size(self.memory, rings, u16::try_from(size).unwrap());
        self.place_queue(index, size, Driver::places(rings));
        assert_eq!(self.make_ready(index), 1);
        queue
    }

    /// Writes size and places (descriptor table, available ring, used ring) of a queue.
    pub fn place_queue(&self, index: u32, size: u32, places: [u64; 3]) {
        self.write(reg::VIRTIO_MMIO_QUEUE_SEL, index);
        self.write(reg::VIRTIO_MMIO_QUEUE_NUM, size);
        let registers = [
            reg::VIRTIO_MMIO_QUEUE_DESC_LOW,
            reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
            reg::VIRTIO_MMIO_QUEUE_USED_LOW,
        ];
        for (register, place) in registers.into_iter().zip(places) {
            self.write(register, u32::try_from(place & 0xffff_ffff).unwrap());
            self.write(register + 4, u32::try_from(place >> 32).unwrap());
        }
    }

    /// Says that a queue is ready, and what the device makes of it.
    pub fn make_ready(&self, index: u32) -> u32 {
        self.write(reg::VIRTIO_MMIO_QUEUE_SEL, index);
        self.write(reg::VIRTIO_MMIO_QUEUE_READY, 1);
        self.read(reg::VIRTIO_MMIO_QUEUE_READY)
    }

    /// Reads a register.
    pub fn read(&self, register: u32) -> u32 {
        let mut bytes = [0xee; 4];
        self.transport.read(register.into(), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Writes a register.
    pub fn write(&self, register: u32, value: u32) {
        self.transport.write(register.into(), &value.to_le_bytes());
    }

    /// Reads from the configuration space.
    pub fn config<const N: usize>(&self, offset: u32) -> [u8; N] {
        let mut bytes = [0xee; N];
        self.transport.read(u64::from(reg::VIRTIO_MMIO_CONFIG + offset), &mut bytes);
        bytes
    }

    /// The status register.
    pub fn status(&self) -> u32 {
        self.read(reg::VIRTIO_MMIO_STATUS)
    }

    /// What a driver's interrupt handler does: reads the interrupt status and acknowledges it.
    pub fn handle_interrupt(&self) -> u32 {
        let status = self.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS);
        self.write(reg::VIRTIO_MMIO_INTERRUPT_ACK, status);
        status
    }

    /// Kicks a queue, and lets the device thread do all that follows.
    pub fn kick(&self, index: u32) -> Ran {
        let ran = self.transport.kick(index);
        self.settle();
        ran
    }

    /// Lets the device thread do what it has to. A device that never comes to rest is left
    /// alone after a while.
    pub fn settle(&self) {
        for _ in 0..1000 {
            if !self.transport.has_more() {
                return;
            }
            let _ = self.transport.run_again();
        }
    }
}
