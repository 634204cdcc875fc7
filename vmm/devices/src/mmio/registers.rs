//! The registers behind the lock (section 4.2.2).

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_mmio as reg;
use virtio_queue::QueueT;

use super::status::{Status, Step};
use super::transport::Lines;
use crate::virtio::{QueuedDevice, Ran, place_queue};

/// "virt", the first register.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "Husk", whom no driver asks for.
const VENDOR: u32 = 0x6b73_7548;

pub(super) const INTERRUPT_QUEUE: u32 = reg::VIRTIO_MMIO_INT_VRING;
pub(super) const INTERRUPT_CONFIG: u32 = reg::VIRTIO_MMIO_INT_CONFIG;

/// What the driver has written about a queue, unchecked until it says that the queue is ready.
#[derive(Clone, Copy, Debug, Default)]
struct Setup {
    size: u32,
    descriptors: u64,
    available: u64,
    used: u64,
}

/// All state of the transport but the interrupt status.
pub(super) struct Registers {
    pub(super) device: QueuedDevice,
    status: Status,
    /// Which words the next accesses to features are for.
    device_features_word: u32,
    driver_features_word: u32,
    driver_features: u64,
    /// It accepted a feature that has no place in 64 bits.
    accepts_unknown: bool,
    selected: u32,
    setups: Vec<Setup>,
    generation: u32,
}

impl Registers {
    pub(super) fn new(device: QueuedDevice) -> Self {
        let setups = Self::initial_setups(&device);
        Self {
            device,
            status: Status::default(),
            device_features_word: 0,
            driver_features_word: 0,
            driver_features: 0,
            accepts_unknown: false,
            selected: 0,
            setups,
            generation: 0,
        }
    }

    pub(super) fn read(&self, register: u32) -> u32 {
        match register {
            reg::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            reg::VIRTIO_MMIO_VERSION => VERSION,
            reg::VIRTIO_MMIO_DEVICE_ID => self.device.kind() as u32,
            reg::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            reg::VIRTIO_MMIO_DEVICE_FEATURES => {
                word(self.device.features(), self.device_features_word)
            }
            reg::VIRTIO_MMIO_QUEUE_NUM_MAX => {
                self.device.queue(self.selected()).map_or(0, |queue| queue.max_size().into())
            }
            reg::VIRTIO_MMIO_QUEUE_READY => self.device.is_running(self.selected()).into(),
            reg::VIRTIO_MMIO_STATUS => self.status.bits(),
            // Of no region: so says a length of all ones (section 4.2.2).
            reg::VIRTIO_MMIO_SHM_LEN_LOW
            | reg::VIRTIO_MMIO_SHM_LEN_HIGH
            | reg::VIRTIO_MMIO_SHM_BASE_LOW
            | reg::VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            reg::VIRTIO_MMIO_CONFIG_GENERATION => self.generation,
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, register: u32, value: u32, lines: &Lines) {
        match register {
            reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_word = value,
            reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_word = value,
            reg::VIRTIO_MMIO_DRIVER_FEATURES => self.choose_features(value, lines),
            reg::VIRTIO_MMIO_QUEUE_SEL => self.selected = value,
            reg::VIRTIO_MMIO_QUEUE_READY => self.set_queue_ready(value, lines),
            reg::VIRTIO_MMIO_STATUS => self.set_status(value, lines),
            _ => self.set_queue_up(register, value, lines),
        }
    }

    pub(super) fn write_config(&mut self, offset: u32, data: &[u8]) {
        if self.status.is_driven() {
            self.device.write_config(offset, data);
        }
    }

    /// Passes on to the driver what the device thread did.
    pub(super) fn conclude(&mut self, ran: &Ran, lines: &Lines) {
        let mut interrupt = if ran.signal == 0 { 0 } else { INTERRUPT_QUEUE };
        if ran.config_changed {
            self.generation = self.generation.wrapping_add(1);
            if self.status.is_live() {
                interrupt |= INTERRUPT_CONFIG;
            }
        }
        lines.interrupt(interrupt);
        if ran.broken != 0 {
            self.give_up(lines);
        }
    }

    fn set_status(&mut self, value: u32, lines: &Lines) {
        match self.status.step(value) {
            Step::Nothing => {}
            Step::Advance(next) => self.status = next,
            Step::FixFeatures(next) => {
                let offered = self.device.features();
                let accepted = self.driver_features;
                // Otherwise the bit stays clear, which is how the driver learns of it.
                let known = accepted & !offered == 0 && !self.accepts_unknown;
                if known && accepted & 1 << VIRTIO_F_VERSION_1 != 0 {
                    self.device.set_features(accepted);
                    self.status = next;
                }
            }
            Step::Activate(next) => {
                self.status = next;
                self.device.activate();
                lines.wake();
            }
            Step::Fail(next) => {
                self.status = next;
                self.stop(lines);
            }
            Step::Reset => {
                self.stop(lines);
                lines.clear();
                self.status = Status::default();
                self.device_features_word = 0;
                self.driver_features_word = 0;
                self.driver_features = 0;
                self.accepts_unknown = false;
                self.selected = 0;
                self.setups = Self::initial_setups(&self.device);
            }
            Step::Refuse => self.refuse(lines),
        }
    }

    fn choose_features(&mut self, value: u32, lines: &Lines) {
        if !self.status.is_choosing() {
            return self.refuse(lines);
        }
        let (kept, shift) = match self.driver_features_word {
            0 => (0xffff_ffff_0000_0000, 0),
            1 => (0xffff_ffff, 32),
            _ => {
                self.accepts_unknown |= value != 0;
                return;
            }
        };
        self.driver_features = self.driver_features & kept | u64::from(value) << shift;
    }

    /// The registers that describe a queue: frozen once it is ready.
    fn set_queue_up(&mut self, register: u32, value: u32, lines: &Lines) {
        let index = self.selected();
        let running = self.device.is_running(index);
        let writable = self.status.is_setting_up() && !running;
        let mut ignored = Setup::default();
        let setup = match self.setups.get_mut(index) {
            Some(setup) if writable => setup,
            _ => &mut ignored,
        };
        match register {
            reg::VIRTIO_MMIO_QUEUE_NUM => setup.size = value,
            reg::VIRTIO_MMIO_QUEUE_DESC_LOW => set_low(&mut setup.descriptors, value),
            reg::VIRTIO_MMIO_QUEUE_DESC_HIGH => set_high(&mut setup.descriptors, value),
            reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_low(&mut setup.available, value),
            reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_high(&mut setup.available, value),
            reg::VIRTIO_MMIO_QUEUE_USED_LOW => set_low(&mut setup.used, value),
            reg::VIRTIO_MMIO_QUEUE_USED_HIGH => set_high(&mut setup.used, value),
            _ => return,
        }
        if !writable {
            self.refuse(lines);
        }
    }

    fn set_queue_ready(&mut self, value: u32, lines: &Lines) {
        let index = self.selected();
        match value {
            // A driver may stop a queue at any time, but not start it anew while it is live.
            0 => self.device.pause(index),
            1 if self.device.is_running(index) => {}
            1 if self.status.is_setting_up() => {
                if !self.start_queue(index) {
                    self.give_up(lines);
                }
            }
            _ => self.refuse(lines),
        }
    }

    /// Checks and freezes a queue; false where it is no queue that could be walked.
    fn start_queue(&mut self, index: usize) -> bool {
        let Some(setup) = self.setups.get(index).copied() else { return false };
        let Some(queue) = self.device.stopped_queue(index) else { return false };
        let Ok(size) = u16::try_from(setup.size) else { return false };
        queue.try_set_size(size).is_ok()
            && place_queue(queue, setup.descriptors, setup.available, setup.used)
            && self.device.start(index).is_ok()
    }

    /// Ignores what no driver may do; a live device goes on with such a driver no further.
    fn refuse(&mut self, lines: &Lines) {
        if self.status.is_live() {
            self.give_up(lines);
        }
    }

    /// Sets `DEVICE_NEEDS_RESET` and tells the driver (section 2.1.2).
    fn give_up(&mut self, lines: &Lines) {
        self.status = self.status.broken();
        self.stop(lines);
        if self.status.was_live() {
            lines.interrupt(INTERRUPT_CONFIG);
        }
    }

    /// No queue is walked from now on; the device forgets its driver on its own thread.
    fn stop(&mut self, lines: &Lines) {
        self.device.reset();
        if self.device.has_more() {
            lines.wake();
        }
    }

    fn selected(&self) -> usize {
        usize::try_from(self.selected).unwrap_or(usize::MAX)
    }

    fn initial_setups(device: &QueuedDevice) -> Vec<Setup> {
        let size = |index| device.queue(index).map_or(0, |queue| queue.max_size().into());
        let setup = |index| Setup { size: size(index), ..Setup::default() };
        (0..device.queue_count()).map(setup).collect()
    }
}

/// Word `index` of the feature bits; there are two.
fn word(features: u64, index: u32) -> u32 {
    let word = match index {
        0 => features & 0xffff_ffff,
        1 => features >> 32,
        _ => 0,
    };
    u32::try_from(word).expect("32 bits fit")
}

fn set_low(address: &mut u64, value: u32) {
    *address = *address & 0xffff_ffff_0000_0000 | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = *address & 0xffff_ffff | u64::from(value) << 32;
}
