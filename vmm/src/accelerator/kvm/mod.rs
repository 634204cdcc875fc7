//! The guest in this process, on `/dev/kvm`.
//!
//! ```text
//! main thread ◀── bells: console, vCPUs, devices
//! vCPU threads ── registers ──▶ bus ──▶ transports ◀── kicks: ioeventfds ── guest
//! disk, link threads ──▶ transports, devices ── interrupts: irqfds ──▶ guest
//! ```
//!
//! How a guest ends is seen here: a reset by the keyboard controller's port, a triple fault (what
//! `reboot=t` makes of a reboot and a panic), an error of KVM's. A guest whose vCPUs all halt with
//! their interrupts off does not end: with local APICs in the kernel, nobody outside sees it. Linux
//! does that when it is asked to power off or to halt, which is why the agent reboots instead.

mod cmdline;
mod console;
mod devices;
mod guest;
mod messages;
mod pmem;

use std::fs::File;

use husk_vmm_config::step;

use super::{Accelerator, AcceleratorError, Guest, Machine};
use crate::device_thread::Notices;
use crate::kvm::{self, VcpuThread, Vm};
use crate::memory::{Layout, Usage, load_kernel, map_ram};
use crate::poll::Poll;
use devices::Devices;
use guest::{KvmGuest, Parts};

/// The accelerator.
#[derive(Debug)]
pub(crate) struct Kvm;

impl Accelerator for Kvm {
    fn start(&self, machine: Machine, poll: &Poll) -> Result<Box<dyn Guest>, AcceleratorError> {
        let io = |attempt| move |source| AcceleratorError::Io { attempt, source };
        let (notices, inbox) = Notices::channel().map_err(io("make an event descriptor"))?;
        let (mut groups, console) =
            console::with_console(machine.groups).map_err(io("make the console"))?;
        let lengths: Vec<_> = machine.pmems.iter().map(|pmem| pmem.length).collect();
        let count = groups.iter().map(|group| group.devices.len()).sum::<usize>() + lengths.len();
        let layout = Layout::new(machine.memory_mib, &lengths, count)?;
        // Line 0 is no device's.
        let lines = u8::try_from(count + 1).expect("the layout has few windows");
        let fixed = pmem::slots(&machine.pmems, &layout)?;
        let last = groups.last_mut().expect("the console is in one");
        last.devices.extend(pmem::devices(&layout));
        let memory = map_ram(&layout).map_err(io("map guest memory"))?;
        let usage = Usage::new(machine.smaps, &memory);
        let image = load_kernel(&machine.kernel, &memory, &layout)?;

        let vm = Vm::new(device(machine.kvm)?, machine.vcpus, &layout)?;
        let vm = vm.with_memory(memory.clone(), fixed)?;
        machine.timeline.mark(step::MEMORY);
        let vm = vm.with_interrupts(lines)?.with_vcpus()?;
        machine.timeline.mark(step::VCPUS);
        let devices = Devices::new(groups, &memory, &layout)?;
        let ready = vm.with_lines(devices.lines())?;

        let parameters = cmdline::parameters(&machine.cmdline, &layout);
        let cpus = (machine.vcpus, lines);
        let boot = kvm::prepare(&memory, &layout, &image, &parameters, cpus)?;
        boot.apply(&ready.vcpus[0])?;
        let (bus, workers) = devices.serve(&notices)?;
        let (sender, messages) = messages::channel().map_err(io("make an event descriptor"))?;
        let mut vcpus = Vec::with_capacity(ready.vcpus.len());
        for (number, vcpu) in (0_u8..).zip(ready.vcpus) {
            let vm = (&ready.interrupts, &ready.held);
            let around = sender.surroundings(number, &bus, vm, &machine.timeline);
            let thread = VcpuThread::start(number, vcpu, around);
            vcpus.push(thread.map_err(io("start a vCPU"))?);
        }
        let parts = Parts { vcpus, workers, held: ready.held, console, inbox, messages, usage };
        let guest = KvmGuest::new(parts, machine.timeline, poll);
        Ok(Box::new(guest.map_err(io("watch the guest"))?))
    }
}

/// The device, as the engine opened it.
fn device(file: Option<File>) -> Result<kvm_ioctls::Kvm, AcceleratorError> {
    file.map(kvm::adopt).ok_or(AcceleratorError::NoKvm)
}
