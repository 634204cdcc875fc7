//! A device thread and the driver that it serves.

use std::sync::atomic::{AtomicU64, Ordering};

use husk_devices::mmio::driver::MmioDriver;
use husk_devices::virtio::driver::Driver;
use husk_devices::virtio::rng::Rng;
use husk_devices::virtio::{Device, Memory};
use rustix::time::{ClockId, clock_gettime};

use super::*;
use crate::backend::HostEntropy;
use crate::device_thread::{Inbox, MmioDevice};

/// What a device's thread did so far.
#[derive(Default)]
struct Cost {
    kicks: AtomicU64,
    rounds: AtomicU64,
    cpu_us: AtomicU64,
}

/// A device whose cost is counted.
struct Counted {
    device: MmioDevice,
    cost: Arc<Cost>,
}

impl Endpoint for Counted {
    fn kick(&mut self, queue: u32) -> Ran {
        self.cost.kicks.fetch_add(1, Ordering::Relaxed);
        self.device.kick(queue)
    }

    fn handle_event(&mut self, token: u32, readiness: Readiness) -> Ran {
        self.device.handle_event(token, readiness)
    }

    fn handle_transport(&mut self, notices: &Notices) {
        self.device.handle_transport(notices);
    }

    fn has_more(&self) -> bool {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        let used = used.tv_sec * 1_000_000 + used.tv_nsec / 1000;
        self.cost.cpu_us.store(u64::try_from(used).unwrap(), Ordering::Relaxed);
        self.cost.rounds.fetch_add(1, Ordering::Relaxed);
        self.device.has_more()
    }

    fn run_again(&mut self) -> Ran {
        self.device.run_again()
    }

    fn listen(&mut self, queue: u32, listen: bool) {
        self.device.listen(queue, listen);
    }
}

/// A running device thread.
struct Setting {
    interrupt: Line,
    kick: Line,
    cost: Arc<Cost>,
    inbox: Inbox,
    /// Ends before the rest goes.
    _worker: Worker,
}

impl Setting {
    fn start<'m>(device: Box<dyn Device>, memory: &'m Memory) -> (Self, MmioDriver<'m>) {
        let poll = Arc::new(Poll::new().unwrap());
        let interrupt = Line::new().unwrap();
        let line = Box::new(interrupt.clone());
        let device = MmioDevice::new(device, 0, poll.clone(), memory.clone(), line).unwrap();
        let driver = MmioDriver::over(device.transport(), memory);
        let kick = device.kicks()[0].clone();
        let cost = Arc::new(Cost::default());
        let counted = Box::new(Counted { device, cost: cost.clone() });
        let (notices, inbox) = Notices::channel().unwrap();
        // The first call looks for the vDSO, in a way that the thread's filter does not have.
        let _ = clock_gettime(ClockId::ThreadCPUTime);
        let worker = Worker::start("test", poll, vec![counted], notices).unwrap();
        (Self { interrupt, kick, cost, inbox, _worker: worker }, driver)
    }

    /// Waits for an interrupt of the device.
    fn interrupted(&self) {
        let poll = Poll::new().unwrap();
        poll.add(&self.interrupt, 0, Watch::Readable).unwrap();
        let mut events = Vec::new();
        poll.wait(&mut events, Some(Duration::from_secs(30))).unwrap();
        assert_eq!(events.len(), 1, "the interrupt comes");
        assert!(self.interrupt.take());
    }
}

#[test]
fn requests_are_served_and_the_main_thread_hears_of_the_driver() {
    let memory = Driver::memory();
    let (setting, driver) = Setting::start(Box::new(Rng::new(HostEntropy)), &memory);
    let mut queues = driver.bring_up(0);
    for round in 1..=200 {
        queues[0].offer(&[(0x1000, round, true)]);
        setting.kick.raise();
        setting.interrupted();
        driver.handle_interrupt();
        assert_eq!(queues[0].used(), [round]);
    }
    assert_eq!(setting.cost.kicks.load(Ordering::Relaxed), 200, "work is always heard");
    drop(setting._worker);
    assert!(setting.inbox.drain().len() <= 1, "one driver, one notice");
}

#[test]
fn a_storm_of_kicks_for_nothing_costs_less_than_a_twentieth_of_a_cpu() {
    const STORM: Duration = Duration::from_secs(1);
    let memory = Driver::memory();
    let (setting, driver) = Setting::start(Box::new(Rng::new(HostEntropy)), &memory);
    let mut queues = driver.bring_up(0);
    let cost = &setting.cost;
    let before = cost.cpu_us.load(Ordering::Relaxed);
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < STORM {
        setting.kick.raise();
        sent += 1;
    }
    let elapsed = start.elapsed();
    let heard = cost.kicks.load(Ordering::Relaxed);
    let rounds = cost.rounds.load(Ordering::Relaxed);
    let cpu_us = cost.cpu_us.load(Ordering::Relaxed) - before;
    eprintln!("{sent} kicks in {elapsed:?}: {heard} heard, {rounds} rounds, {cpu_us} us of CPU");
    assert!(heard < 1000 && u128::from(cpu_us) < elapsed.as_micros() / 20);

    queues[0].offer(&[(0x1000, 8, true)]);
    setting.kick.raise();
    setting.interrupted();
    assert_eq!(queues[0].used(), [8], "work is heard again soon");
}
