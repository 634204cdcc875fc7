//! What vCPU threads and the device thread share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_mmio as reg;

use super::WINDOW_LENGTH;
use super::registers::Registers;
use crate::bus::BusDevice;
use crate::interrupt::Interrupt;
use crate::virtio::{Device, DeviceError, DeviceKind, Memory, QueuedDevice, Ran, Readiness};

/// A device on the memory bus.
pub struct Transport {
    lines: Lines,
    registers: Mutex<Registers>,
}

/// The ways out: to the driver and to the device thread. None of them waits.
pub(super) struct Lines {
    /// The interrupt status register.
    status: AtomicU32,
    interrupt: Box<dyn Interrupt>,
    /// Queues that can be kicked, and those that were by a register write, by bit.
    kickable: u32,
    kicked: AtomicU32,
    thread: Box<dyn Interrupt>,
}

impl Transport {
    /// A device whose queues lie in `memory`. It sends interrupts to the driver on `interrupt`,
    /// and to the device thread on `thread`: that shall then call [`run_again`](Self::run_again).
    pub fn new(
        device: Box<dyn Device>,
        memory: Memory,
        interrupt: Box<dyn Interrupt>,
        thread: Box<dyn Interrupt>,
    ) -> Result<Self, DeviceError> {
        let mut device = QueuedDevice::new(device, None)?;
        device.set_memory(Some(memory));
        let lines = Lines {
            status: AtomicU32::new(0),
            interrupt,
            kickable: (0..device.queue_count()).fold(0, |mask, index| mask | 1 << index),
            kicked: AtomicU32::new(0),
            thread,
        };
        Ok(Self { lines, registers: Mutex::new(Registers::new(device)) })
    }

    /// What the driver takes the device for.
    pub fn kind(&self) -> DeviceKind {
        self.registers().device.kind()
    }

    /// Its queues, each of which has a kick of its own.
    pub fn queue_count(&self) -> usize {
        self.registers().device.queue_count()
    }

    /// A driver's read: of a register as 32 bits, of the configuration space as 8, 16 or 32 bits,
    /// all of them aligned. Anything else reads as zeros.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match decode(offset, data.len()) {
            Some(Place::Register(reg::VIRTIO_MMIO_INTERRUPT_STATUS)) => {
                data.copy_from_slice(&self.lines.status().to_le_bytes());
            }
            Some(Place::Register(register)) => {
                data.copy_from_slice(&self.registers().read(register).to_le_bytes());
            }
            Some(Place::Config(offset)) => self.registers().device.read_config(offset, data),
            None => {}
        }
    }

    /// A driver's write, of the same widths. Anything else is ignored.
    pub fn write(&self, offset: u64, data: &[u8]) {
        match decode(offset, data.len()) {
            Some(Place::Register(register)) => {
                let Ok(bytes) = data.try_into() else { return };
                let value = u32::from_le_bytes(bytes);
                match register {
                    reg::VIRTIO_MMIO_INTERRUPT_ACK => self.lines.acknowledge(value),
                    reg::VIRTIO_MMIO_QUEUE_NOTIFY => self.lines.kick(value),
                    _ => self.registers().write(register, value, &self.lines),
                }
            }
            Some(Place::Config(offset)) => self.registers().write_config(offset, data),
            None => {}
        }
    }

    /// The driver kicked that queue; for the device thread only, as all below.
    pub fn kick(&self, index: u32) -> Ran {
        self.run(|device| device.kick(index))
    }

    /// Something that the device watches is ready.
    pub fn handle_event(&self, token: u32, readiness: Readiness) -> Ran {
        self.run(|device| device.handle_event(token, readiness))
    }

    /// Whether [`run_again`](Self::run_again) has something to do.
    pub fn has_more(&self) -> bool {
        self.lines.kicked.load(Ordering::Relaxed) != 0 || self.registers().device.has_more()
    }

    /// Serves queues that wait for another turn, and lets the device learn of its driver's doings.
    pub fn run_again(&self) -> Ran {
        let kicked = self.lines.kicked.swap(0, Ordering::Acquire);
        self.run(|device| device.run_again(kicked))
    }

    fn run(&self, act: impl FnOnce(&mut QueuedDevice) -> Ran) -> Ran {
        let mut registers = self.registers();
        let ran = act(&mut registers.device);
        // Still under the lock: after a reset, nothing more may be heard of what was before.
        registers.conclude(&ran, &self.lines);
        ran
    }

    /// A panic ends the process, so that no lock is ever left poisoned.
    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDevice for Transport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        Self::read(self, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        Self::write(self, offset, data);
    }
}

impl Lines {
    /// Adds to the interrupt status, and sends an edge for what is new there. What is there
    /// already needs none: the driver reads the queues after it has acknowledged, not before.
    pub(super) fn interrupt(&self, bits: u32) {
        if bits & !self.status.fetch_or(bits, Ordering::SeqCst) != 0 {
            self.interrupt.raise();
        }
    }

    /// Wakes the device thread.
    pub(super) fn wake(&self) {
        self.thread.raise();
    }

    /// A reset: nothing is to be heard of what was before.
    pub(super) fn clear(&self) {
        self.status.store(0, Ordering::SeqCst);
        self.kicked.store(0, Ordering::Relaxed);
    }

    fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    fn kick(&self, index: u32) {
        if let Some(bit) = 1_u32.checked_shl(index)
            && self.kickable & bit != 0
            && self.kicked.fetch_or(bit, Ordering::Release) & bit == 0
        {
            self.wake();
        }
    }
}

/// What an access of a legal width is for.
enum Place {
    Register(u32),
    Config(u32),
}

fn decode(offset: u64, length: usize) -> Option<Place> {
    let length = u32::try_from(length).ok()?;
    let end = offset.checked_add(length.into())?;
    let offset = u32::try_from(offset).ok()?;
    if end > WINDOW_LENGTH || !matches!(length, 1 | 2 | 4) || offset % length != 0 {
        return None;
    }
    match offset.checked_sub(reg::VIRTIO_MMIO_CONFIG) {
        Some(offset) => Some(Place::Config(offset)),
        None => (length == 4).then_some(Place::Register(offset)),
    }
}
