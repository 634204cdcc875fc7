//! Real VMs, up to the point where they could run. Where there is no KVM, these say so.

#![allow(clippy::print_stderr, reason = "a skipped test says why, a figure is printed")]

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::memory::map_ram;

const LINES: u8 = 8;
const ROUNDS: usize = 100;

fn kvm() -> Option<Kvm> {
    let kvm = Kvm::new().inspect_err(|error| eprintln!("SKIP: no /dev/kvm here: {error}"));
    kvm.ok()
}

fn layout() -> Layout {
    Layout::new(128, &[], usize::from(LINES) - 1).unwrap()
}

/// The events of devices, made before the clock starts as they are with the devices.
struct Events(Vec<(OwnedFd, [OwnedFd; 3])>);

impl Events {
    fn new() -> Self {
        let event = || eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        Self((1..LINES).map(|_| (event(), [event(), event(), event()])).collect())
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        (1..).zip(&self.0).map(|(gsi, (interrupt, queues))| Line {
            gsi,
            interrupt: interrupt.as_fd(),
            notify: 0xd000_0050 + u64::from(gsi) * 0x1000,
            queues: queues.iter().map(AsFd::as_fd).collect(),
        })
    }
}

/// The four steps with the time that each took.
fn build(vcpus: u8) -> Option<(ReadyVm, [Duration; 4])> {
    let kvm = kvm()?;
    let (layout, events) = (layout(), Events::new());
    let mut last = Instant::now();
    let mut lap = || std::mem::replace(&mut last, Instant::now()).elapsed();
    let memory = map_ram(&layout).unwrap();
    let vm = Vm::new(kvm, vcpus, &layout).unwrap().with_memory(memory, Vec::new()).unwrap();
    let slots = lap();
    let vm = vm.with_interrupts(LINES).unwrap();
    let interrupts = lap();
    let vm = vm.with_vcpus().unwrap();
    let processors = lap();
    let ready = vm.with_lines(events.lines()).unwrap();
    Some((ready, [slots, interrupts, processors, lap()]))
}

/// The type of each step's result is what the next one takes: this function is the order, and no
/// other compiles.
#[test]
fn setting_up_goes_from_slots_over_interrupts_and_vcpus_to_lines() {
    let mut times: [Vec<Duration>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let Some((ready, laps)) = build(1) else { return };
        assert_eq!(ready.vcpus.len(), 1);
        let all = laps.into_iter().chain([laps.iter().sum()]);
        times.iter_mut().zip(all).for_each(|(times, time)| times.push(time));
    }
    for (name, times) in
        ["slots", "interrupts", "vCPUs", "lines", "together"].iter().zip(&mut times)
    {
        times.sort_unstable();
        let (p50, p90) = (times[ROUNDS / 2], times[ROUNDS * 9 / 10]);
        eprintln!("KVM set-up, {name}: min {:?}, p50 {p50:?}, p90 {p90:?}", times[0]);
    }
}

#[test]
fn a_guest_may_have_as_many_vcpus_as_a_configuration() {
    let Some((ready, laps)) = build(husk_vmm_config::VCPUS_MAX) else { return };
    assert_eq!(ready.vcpus.len(), usize::from(husk_vmm_config::VCPUS_MAX));
    eprintln!("with 32 vCPUs: {:?}", laps.iter().sum::<Duration>());
}

#[test]
fn memory_behind_the_processors_addresses_is_refused() {
    let Some(kvm) = kvm() else { return };
    let layout = Layout::new(1 << 20, &[(1 << 51) - (4 << 40)], 0).unwrap();
    let error = Vm::new(kvm, 1, &layout).unwrap_err().to_string();
    assert!(error.contains("physical address bits"), "{error}");
}
