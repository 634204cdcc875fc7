//! Stories from a driver's side, good drivers and bad ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_mmio as reg;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::Queue;

use super::driver::{MmioDriver, stage};
use super::{QUEUE_NOTIFY, WINDOW_LENGTH};
use crate::virtio::driver::Driver;
use crate::virtio::{
    Device, DeviceKind, Memory, QueueError, RING_FEATURES, Readiness, Serve, Served,
    read_config_bytes, serve,
};

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const QUEUE: u32 = reg::VIRTIO_MMIO_INT_VRING;
const CONFIG: u32 = reg::VIRTIO_MMIO_INT_CONFIG;

/// What the transport told the device.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Told {
    Activated(u64),
    Reset,
    Event(u32),
    Config(u32, Vec<u8>),
}

type Log = Arc<Mutex<Vec<Told>>>;

/// A device that gives every chain back, and remembers what it was told. An event changes its
/// configuration space, of eight bytes.
#[derive(Default)]
struct Fake {
    log: Log,
    config: [u8; 8],
    changed: bool,
    /// Says when a turn begins, and waits for the word to go on.
    gate: Option<(Sender<()>, Receiver<()>)>,
}

impl Fake {
    fn boxed() -> (Box<Self>, Log) {
        let fake = Self { config: *b"abcdefgh", ..Self::default() };
        let log = fake.log.clone();
        (Box::new(fake), log)
    }

    fn note(&self, told: Told) {
        self.log.lock().unwrap().push(told);
    }
}

impl Device for Fake {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Console
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 16]
    }

    fn features(&self) -> u64 {
        RING_FEATURES | 1 << 3
    }

    fn process(
        &mut self,
        _index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        serve(queue, memory, |_| {
            if let Some((begun, go_on)) = &self.gate {
                begun.send(()).unwrap();
                go_on.recv().unwrap();
            }
            Serve::Done(1)
        })
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        read_config_bytes(&self.config, offset, data);
    }

    fn write_config(&mut self, offset: u32, data: &[u8]) {
        self.note(Told::Config(offset, data.to_vec()));
    }

    fn take_config_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn activate(&mut self, features: u64) {
        self.note(Told::Activated(features));
    }

    fn reset(&mut self) {
        self.note(Told::Reset);
    }

    fn handle_event(&mut self, token: u32, _readiness: Readiness) {
        self.note(Told::Event(token));
        self.config[0] = b'z';
        self.changed = true;
    }
}

fn taken(log: &Log) -> Vec<Told> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn a_driver_finds_what_the_device_is() {
    let memory = Driver::memory();
    let (device, log) = Fake::boxed();
    let driver = MmioDriver::new(device, &memory);
    assert_eq!(driver.read(reg::VIRTIO_MMIO_MAGIC_VALUE).to_le_bytes(), *b"virt");
    assert_eq!(driver.read(reg::VIRTIO_MMIO_VERSION), 2);
    assert_eq!(driver.read(reg::VIRTIO_MMIO_DEVICE_ID), 3);
    assert_eq!(driver.offered(), RING_FEATURES | 1 << 3);
    for word in [2, 3, u32::MAX] {
        driver.write(reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL, word);
        assert_eq!(driver.read(reg::VIRTIO_MMIO_DEVICE_FEATURES), 0);
    }
    for (queue, size) in [(0, 64), (1, 16), (2, 0), (31, 0), (u32::MAX, 0)] {
        driver.write(reg::VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(driver.read(reg::VIRTIO_MMIO_QUEUE_NUM_MAX), size);
        assert_eq!(driver.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
    }
    for region in [0, 1, u32::MAX] {
        driver.write(reg::VIRTIO_MMIO_SHM_SEL, region);
        for register in (reg::VIRTIO_MMIO_SHM_LEN_LOW..=reg::VIRTIO_MMIO_SHM_BASE_HIGH).step_by(4) {
            assert_eq!(driver.read(register), u32::MAX, "there is no such region");
        }
    }
    assert_eq!((driver.status(), driver.wakes.take(), taken(&log)), (0, 0, vec![]));
}

#[test]
fn chains_come_back_with_one_interrupt_until_it_is_acknowledged() {
    let memory = Driver::memory();
    let (device, log) = Fake::boxed();
    let (driver, mut queues) = MmioDriver::live(device, &memory, 1 << 3);
    assert_eq!(taken(&log), [Told::Activated(VERSION_1 | 1 << 3)]);
    assert_eq!(driver.interrupts.take(), 0, "nothing has happened yet");
    for _ in 0..3 {
        queues[0].offer(&[(0x1000, 16, false)]);
        let ran = driver.kick(0);
        assert!(ran.used);
    }
    queues[1].offer(&[(0x1000, 16, true)]);
    let _ = driver.kick(1);
    assert_eq!((queues[0].used().len(), queues[1].used().len()), (3, 1));
    assert_eq!(driver.interrupts.take(), 1, "the driver has yet to look");
    assert_eq!(driver.handle_interrupt(), QUEUE);
    assert_eq!(driver.handle_interrupt(), 0);
    queues[0].offer(&[(0x1000, 16, false)]);
    let _ = driver.kick(0);
    assert_eq!((driver.interrupts.take(), driver.handle_interrupt()), (1, QUEUE));
    let _ = driver.kick(0);
    assert_eq!(driver.interrupts.take(), 0, "a kick for nothing is answered by nothing");
}

#[test]
fn interrupts_come_when_the_driver_asked_for_them() {
    let memory = Driver::memory();
    let (driver, mut queues) = MmioDriver::live(Fake::boxed().0, &memory, EVENT_IDX);
    let queue = &mut queues[0];
    queue.set_used_event(2);
    let mut heard = Vec::new();
    for _ in 0..5 {
        queue.offer(&[(0x1000, 16, false)]);
        let _ = driver.kick(0);
        heard.push(driver.handle_interrupt());
    }
    assert_eq!(heard, [0, 0, QUEUE, 0, 0], "once, when the index passes the event");
    assert_eq!(queue.available_event(), 5, "a kick is wanted for the next chain");

    let (driver, mut queues) = MmioDriver::live(Fake::boxed().0, &memory, 0);
    let queue = &mut queues[0];
    for flags in [1, 0, 1] {
        queue.set_available_flags(flags);
        queue.offer(&[(0x1000, 16, false)]);
        let _ = driver.kick(0);
        assert_eq!(driver.handle_interrupt(), if flags == 0 { QUEUE } else { 0 });
        assert_eq!(queue.used_flags(), 0, "a kick is wanted for the next chain");
    }
}

#[test]
fn what_a_queue_is_made_of_is_frozen_and_touching_it_ends_the_device() {
    let registers = [
        reg::VIRTIO_MMIO_QUEUE_NUM,
        reg::VIRTIO_MMIO_QUEUE_DESC_LOW,
        reg::VIRTIO_MMIO_QUEUE_DESC_HIGH,
        reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
        reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
        reg::VIRTIO_MMIO_QUEUE_USED_LOW,
        reg::VIRTIO_MMIO_QUEUE_USED_HIGH,
        reg::VIRTIO_MMIO_DRIVER_FEATURES,
    ];
    for register in registers {
        for (queue, value) in [(0, 0), (0, 8), (1, 0x40_0000), (9, 4)] {
            let memory = Driver::memory();
            let (device, log) = Fake::boxed();
            let (driver, mut queues) = MmioDriver::live(device, &memory, 0);
            driver.write(reg::VIRTIO_MMIO_QUEUE_SEL, queue);
            driver.write(register, value);
            assert_eq!(driver.status(), stage::DRIVER_OK | stage::NEEDS_RESET);
            assert_eq!((driver.interrupts.take(), driver.handle_interrupt()), (1, CONFIG));
            queues[0].offer(&[(0x1000, 16, false)]);
            let _ = driver.kick(0);
            assert!(queues[0].used().is_empty(), "nothing is walked any more");
            assert_eq!(taken(&log), [Told::Activated(VERSION_1), Told::Reset]);
            let mut queues = driver.bring_up(0);
            queues[0].offer(&[(0x1000, 16, false)]);
            let _ = driver.kick(0);
            assert_eq!(queues[0].used(), [1], "a reset heals it");
        }
    }
}

#[test]
fn a_ready_queue_is_frozen_before_the_driver_is_ready_as_well() {
    let memory = Driver::memory();
    let driver = MmioDriver::new(Fake::boxed().0, &memory);
    driver.negotiate(0);
    let mut queue = driver.set_up_queue(0);
    driver.place_queue(0, 8, [0, 0x100, 0x200]);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER_OK);
    driver.settle();
    queue.offer(&[(0x1000, 16, false)]);
    let _ = driver.kick(0);
    assert_eq!(queue.used(), [1]);
}

#[test]
fn a_queue_that_was_stopped_does_not_start_again_without_a_reset() {
    let memory = Driver::memory();
    let (driver, mut queues) = MmioDriver::live(Fake::boxed().0, &memory, 0);
    driver.write(reg::VIRTIO_MMIO_QUEUE_SEL, 0);
    driver.write(reg::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(driver.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
    queues[0].offer(&[(0x1000, 16, false)]);
    queues[1].offer(&[(0x1000, 16, false)]);
    let _ = driver.kick(0);
    let _ = driver.kick(1);
    assert_eq!((queues[0].used().len(), queues[1].used().len()), (0, 1));
    assert_eq!(driver.status(), stage::DRIVER_OK, "stopping is a driver's right");
    assert_eq!(driver.make_ready(0), 0);
    assert_eq!(driver.status(), stage::DRIVER_OK | stage::NEEDS_RESET);
}

#[test]
fn a_queue_must_lie_in_memory_aligned_and_apart() {
    const GOOD: [u64; 3] = [0x1000, 0x2000, 0x3000];
    let top = 5 << 20;
    let cases = [
        (8, GOOD, 1),
        (16, [0x1000, 0x1100, 0x1128], 1), // one right behind the other
        (16, [0x1000, 0x10ff - 1, 0x1128], 0), // the available ring in the table
        (16, [0x1000, 0x1100, 0x1124], 0), // the used ring in the available ring
        (16, [0x1000; 3], 0),
        (0, GOOD, 0),
        (3, GOOD, 0),
        (32, GOOD, 0), // larger than the device takes
        (0x1_0008, GOOD, 0),
        (u32::MAX, GOOD, 0),
        (8, [0x1008, 0x2000, 0x3000], 0),
        (8, [0x1000, 0x2001, 0x3000], 0),
        (8, [0x1000, 0x2000, 0x3002], 0),
        (8, [top - 128, 0x2000, 0x3000], 1),
        (8, [top - 112, 0x2000, 0x3000], 0),
        (8, [0x1000, top - 20, 0x3000], 0),
        (8, [0x1000, 0x2000, top - 68], 0),
        (8, [1 << 40, 0x2000, 0x3000], 0),
        (8, [!15, 0x2000, 0x3000], 0),
        (8, [0x1000, !1, 0x3000], 0),
        (8, [0x1000, 0x2000, !3], 0),
    ];
    for (size, places, ready) in cases {
        let memory = Driver::memory();
        let driver = MmioDriver::new(Fake::boxed().0, &memory);
        driver.negotiate(0);
        driver.place_queue(1, size, places);
        assert_eq!(driver.make_ready(1), ready, "{size} {places:x?}");
        let trouble = if ready == 1 { 0 } else { stage::NEEDS_RESET };
        assert_eq!(driver.status(), stage::FEATURES_OK | trouble);
        assert_eq!(driver.interrupts.take(), 0, "no driver listens yet");
    }
    // Two queues in one place, and a queue that does not exist.
    for (index, places) in [(1, GOOD), (1, [0x6000, 0x7000, 0x3040]), (2, [0x8000, 0x9000, 0xa000])]
    {
        let memory = Driver::memory();
        let driver = MmioDriver::new(Fake::boxed().0, &memory);
        driver.negotiate(0);
        driver.place_queue(0, 16, GOOD);
        assert_eq!(driver.make_ready(0), 1);
        driver.place_queue(index, 16, places);
        assert_eq!(driver.make_ready(index), 0);
        assert_eq!(driver.status(), stage::FEATURES_OK | stage::NEEDS_RESET);
    }
}

#[test]
fn features_are_fixed_only_if_all_of_them_were_offered() {
    let memory = Driver::memory();
    let (device, log) = Fake::boxed();
    let driver = MmioDriver::new(device, &memory);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::ACKNOWLEDGE);
    driver.accept(VERSION_1 | 1 << 3);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::FEATURES_OK);
    assert_eq!(driver.status(), stage::DRIVER, "what came too early does not count");
    for wrong in [0, 1 << 3, VERSION_1 | 1, VERSION_1 | 1 << 63, u64::MAX] {
        driver.accept(wrong);
        driver.write(reg::VIRTIO_MMIO_STATUS, stage::FEATURES_OK);
        assert_eq!(driver.status(), stage::DRIVER, "{wrong:#x}");
    }
    driver.accept(VERSION_1 | EVENT_IDX);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::FEATURES_OK);
    assert_eq!(driver.status(), stage::FEATURES_OK);
    driver.accept(VERSION_1 | 1 << 3);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER_OK);
    driver.settle();
    assert_eq!(taken(&log), [Told::Activated(VERSION_1 | EVENT_IDX)], "they are fixed");

    let driver = MmioDriver::new(Fake::boxed().0, &memory);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::ACKNOWLEDGE);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER);
    driver.write(reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
    driver.write(reg::VIRTIO_MMIO_DRIVER_FEATURES, 1);
    driver.accept(VERSION_1);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::FEATURES_OK);
    assert_eq!(driver.status(), stage::DRIVER, "feature 64 was not offered");
}

#[test]
fn every_status_write_at_every_stage_does_what_the_specification_says() {
    use stage::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET};
    let path = [0, ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];
    for (place, &now) in path.iter().enumerate() {
        for written in (0..=0x1ff).chain([0x8000_000f, u32::MAX]) {
            let memory = Driver::memory();
            let driver = MmioDriver::new(Fake::boxed().0, &memory);
            for &step in &path[..=place] {
                if step == FEATURES_OK {
                    driver.accept(VERSION_1);
                }
                driver.write(reg::VIRTIO_MMIO_STATUS, step);
            }
            assert_eq!(driver.status(), now);
            driver.write(reg::VIRTIO_MMIO_STATUS, written);
            // The features are not chosen at that stage, unless the driver was there.
            let next = path.get(place + 1).copied().filter(|&next| next != FEATURES_OK);
            let expected = match written {
                0 => 0,
                _ if written == now => now,
                _ if written == now | FAILED => written,
                _ if Some(written) == next => written,
                _ if now == DRIVER_OK => now | NEEDS_RESET,
                _ => now,
            };
            assert_eq!(driver.status(), expected, "{now:#x} -> {written:#x}");
        }
    }
}

#[test]
fn a_device_that_needs_a_reset_takes_nothing_else() {
    let memory = Driver::memory();
    let (driver, _queues) = MmioDriver::live(Fake::boxed().0, &memory, 0);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER);
    let broken = stage::DRIVER_OK | stage::NEEDS_RESET;
    assert_eq!(driver.status(), broken);
    for written in 1..=0xff {
        driver.write(reg::VIRTIO_MMIO_STATUS, written);
        let failed = driver.status() & stage::FAILED;
        assert_eq!(driver.status(), broken | failed);
    }
    assert_eq!(driver.status(), broken | stage::FAILED, "giving up is possible at any time");
    assert_eq!(driver.interrupts.take(), 1, "the driver was told once");
    driver.write(reg::VIRTIO_MMIO_STATUS, 0);
    assert_eq!((driver.status(), driver.handle_interrupt()), (0, 0));
}

#[test]
fn a_reset_forgets_everything_and_the_device_learns_of_it_first() {
    let memory = Driver::memory();
    let (device, log) = Fake::boxed();
    let (driver, mut queues) = MmioDriver::live(device, &memory, 1 << 3);
    queues[0].offer(&[(0x1000, 16, false)]);
    let _ = driver.kick(0);
    driver.write(reg::VIRTIO_MMIO_QUEUE_SEL, 1);
    driver.write(reg::VIRTIO_MMIO_STATUS, 0);
    assert_eq!((driver.status(), driver.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS)), (0, 0));
    assert_eq!(driver.read(reg::VIRTIO_MMIO_QUEUE_NUM_MAX), 64, "queue 0 is selected");
    assert_eq!(driver.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
    assert!(driver.wakes.take() > 0, "the device thread has something to do");
    queues[0].offer(&[(0x1000, 16, false)]);
    let ran = driver.transport.kick(0);
    assert!(!ran.used && queues[0].used().len() == 1, "the second chain is nobody's");
    let _ = driver.bring_up(0);
    assert_eq!(
        taken(&log),
        [Told::Activated(VERSION_1 | 1 << 3), Told::Reset, Told::Activated(VERSION_1)]
    );
    // A driver faster than the device thread.
    driver.write(reg::VIRTIO_MMIO_STATUS, 0);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::ACKNOWLEDGE);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER);
    driver.accept(VERSION_1);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::FEATURES_OK);
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER_OK);
    let ran = driver.transport.handle_event(7, Readiness::default());
    assert!(ran.activated);
    assert_eq!(taken(&log), [Told::Reset, Told::Activated(VERSION_1), Told::Event(7)]);
}

#[test]
fn a_reset_waits_for_the_request_in_flight_but_an_acknowledgement_does_not() {
    let memory = Driver::memory();
    let (mut device, _) = Fake::boxed();
    let ((begun, begins), (go, go_on)) = (channel(), channel());
    device.gate = Some((begun, go_on));
    let (driver, mut queues) = MmioDriver::live(device, &memory, 0);
    queues[0].offer(&[(0x1000, 16, false)]);
    queues[0].offer(&[(0x1000, 16, false)]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| driver.transport.kick(0).used);
        begins.recv().unwrap();
        // The device thread is in the middle of a request.
        assert_eq!(driver.handle_interrupt(), 0);
        let resetting = scope.spawn(|| {
            driver.write(reg::VIRTIO_MMIO_STATUS, 0);
            done.store(true, Ordering::SeqCst);
        });
        assert!(!done.load(Ordering::SeqCst), "the request is still in flight");
        go.send(()).unwrap();
        begins.recv().unwrap();
        assert!(!done.load(Ordering::SeqCst), "so is the second of the turn");
        go.send(()).unwrap();
        resetting.join().unwrap();
    });
    assert_eq!(queues[0].used().len(), 2);
    assert_eq!((driver.status(), driver.handle_interrupt()), (0, 0));
    queues[0].offer(&[(0x1000, 16, false)]);
    driver.settle();
    let _ = driver.kick(0);
    assert!(queues[0].used().is_empty(), "memory is the driver's own after a reset");
}

#[test]
fn a_queue_that_contradicts_itself_ends_the_device() {
    let memory = Driver::memory();
    let (device, log) = Fake::boxed();
    let (driver, mut queues) = MmioDriver::live(device, &memory, 0);
    queues[1].claim_available(1000);
    let ran = driver.kick(1);
    assert_eq!(ran.broken, 2);
    assert_eq!(driver.status(), stage::DRIVER_OK | stage::NEEDS_RESET);
    assert_eq!((driver.interrupts.take(), driver.handle_interrupt()), (1, CONFIG));
    assert_eq!(taken(&log), [Told::Activated(VERSION_1), Told::Reset]);
    assert!(!driver.transport.has_more(), "and it comes to rest");
}

#[test]
fn the_configuration_space_is_read_in_aligned_pieces_and_changes_are_told() {
    let memory = Driver::memory();
    let (device, log) = Fake::boxed();
    let (driver, _queues) = MmioDriver::live(device, &memory, 0);
    taken(&log);
    assert_eq!((driver.config::<1>(1), driver.config::<2>(2)), (*b"b", *b"cd"));
    assert_eq!((driver.config::<4>(4), driver.config::<4>(8)), (*b"efgh", [0; 4]));
    assert_eq!((driver.config::<2>(1), driver.config::<4>(2)), ([0; 2], [0; 4]));
    assert_eq!((driver.config::<8>(0), driver.config::<3>(0)), ([0; 8], [0; 3]));
    let before = driver.read(reg::VIRTIO_MMIO_CONFIG_GENERATION);
    let _ = driver.transport.handle_event(3, Readiness::default());
    assert_ne!(driver.read(reg::VIRTIO_MMIO_CONFIG_GENERATION), before);
    assert_eq!((driver.interrupts.take(), driver.handle_interrupt()), (1, CONFIG));
    assert_eq!(driver.config::<1>(0), *b"z");

    let at = u64::from(reg::VIRTIO_MMIO_CONFIG);
    for (offset, bytes) in [(0, &b"1"[..]), (2, b"23"), (1, b"no"), (4, b"4567"), (0, b"12345678")]
    {
        driver.transport.write(at + offset, bytes);
    }
    let written = |offset, bytes: &[u8]| Told::Config(offset, bytes.to_vec());
    let expected = [Told::Event(3), written(0, b"1"), written(2, b"23"), written(4, b"4567")];
    assert_eq!(taken(&log), expected);
    driver.write(reg::VIRTIO_MMIO_STATUS, 0);
    driver.transport.write(at, b"1");
    assert!(taken(&log).is_empty(), "nobody drives the device");
}

#[test]
fn odd_widths_and_offsets_read_as_zeros_and_change_nothing() {
    let memory = Driver::memory();
    let (device, log) = Fake::boxed();
    let (driver, _queues) = MmioDriver::live(device, &memory, 0);
    taken(&log);
    let ends = [WINDOW_LENGTH - 3, WINDOW_LENGTH - 1, WINDOW_LENGTH, u64::MAX - 1, u64::MAX];
    for offset in (0..0x100).chain(ends) {
        for width in [0, 1, 2, 3, 4, 5, 7, 8, 16] {
            let inside = offset < 0x100 || offset < WINDOW_LENGTH && width == 1;
            if inside && offset % 4 == 0 && width == 4 || offset > 0x100 && inside {
                continue;
            }
            let mut data = vec![0xee; width];
            driver.transport.read(offset, &mut data);
            assert!(data.iter().all(|&byte| byte == 0), "{offset:#x} {width}");
            driver.transport.write(offset, &vec![0xff; width]);
        }
    }
    assert_eq!((driver.status(), taken(&log)), (stage::DRIVER_OK, vec![]));
    assert_eq!((driver.interrupts.take(), driver.handle_interrupt()), (0, 0));
}

#[test]
fn registers_that_are_not_there_are_harmless() {
    let memory = Driver::memory();
    let (driver, _queues) = MmioDriver::live(Fake::boxed().0, &memory, 0);
    for register in (0..0x100).step_by(4) {
        // Write-only, or unknown.
        let readable =
            [0x0, 0x4, 0x8, 0xc, 0x10, 0x34, 0x44, 0x60, 0x70, 0xb0, 0xb4, 0xb8, 0xbc, 0xfc];
        assert!(readable.contains(&register) || driver.read(register) == 0, "{register:#x}");
        // Read-only, or unknown: what version 1 has there does not exist in version 2.
        if readable.contains(&register) && ![0x44, 0x70].contains(&register)
            || [0x28, 0x3c, 0x40, 0xc0].contains(&register)
        {
            driver.write(register, u32::MAX);
            assert_eq!(driver.status(), stage::DRIVER_OK, "{register:#x}");
        }
    }
}

#[test]
fn kicks_by_register_wake_the_device_thread_once() {
    let memory = Driver::memory();
    let (driver, mut queues) = MmioDriver::live(Fake::boxed().0, &memory, 0);
    driver.wakes.take();
    queues[1].offer(&[(0x1000, 16, false)]);
    for index in [1_u32, 1, 1, 2, 31, 32, u32::MAX] {
        driver.transport.write(QUEUE_NOTIFY, &index.to_le_bytes());
    }
    assert_eq!(driver.wakes.take(), 1);
    assert!(queues[1].used().is_empty(), "not on the driver's own thread");
    driver.settle();
    assert_eq!(queues[1].used(), [1]);
    assert!(!driver.transport.has_more());
}

#[test]
fn what_was_offered_before_the_driver_was_ready_is_served_then() {
    let memory = Driver::memory();
    let driver = MmioDriver::new(Fake::boxed().0, &memory);
    driver.negotiate(0);
    let mut queue = driver.set_up_queue(0);
    queue.offer(&[(0x1000, 16, false)]);
    let _ = driver.kick(0);
    assert!(queue.used().is_empty() && !driver.transport.has_more());
    driver.write(reg::VIRTIO_MMIO_STATUS, stage::DRIVER_OK);
    assert_eq!(driver.wakes.take(), 1);
    driver.settle();
    assert_eq!(queue.used(), [1]);
}
