//! Guests of a few instructions in real mode. Where there is no KVM, these say so.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use husk_devices::Interrupt;
use husk_devices::bus::BusDevice;
use husk_devices::virtio::Memory;
use kvm_ioctls::Kvm;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::device_thread::Line;
use crate::kvm::vm::{self, ReadyVm, Vm};
use crate::memory::{Layout, map_ram};

const CODE: u64 = 0x1000;

/// A device that notes what happens.
#[derive(Default)]
struct Notes(Mutex<Vec<(u64, Vec<u8>)>>);

impl BusDevice for Notes {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0x5a);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.lock().unwrap().push((offset, data.to_vec()));
    }
}

struct Machine {
    thread: VcpuThread,
    end: std::sync::mpsc::Receiver<VcpuEnd>,
    devices: Arc<Notes>,
    memory: Memory,
    interrupt: Line,
    queue: Line,
}

/// Runs `code` at [`CODE`] with `ds` at 0xd000_0000 where the window of a device would be.
fn run(code: &[u8]) -> Option<Machine> {
    let kvm = Kvm::new().inspect_err(|error| eprintln!("SKIP: no /dev/kvm here: {error}")).ok()?;
    let layout = Layout::new(32, &[], 1).unwrap();
    let memory = map_ram(&layout).unwrap();
    memory.write_slice(code, GuestAddress(CODE)).unwrap();
    let (interrupt, queue) = (Line::new().unwrap(), Line::new().unwrap());
    let window = layout.windows().next().unwrap();
    let line = vm::Line {
        gsi: 1,
        interrupt: interrupt.as_fd(),
        notify: window.start + 0x50,
        queues: vec![queue.as_fd()],
    };
    let vm = Vm::new(kvm, 1, &layout).unwrap().with_memory(memory.clone(), Vec::new()).unwrap();
    let vm = vm.with_interrupts(2).unwrap().with_vcpus().unwrap().with_lines([line]).unwrap();
    let ReadyVm { mut vcpus, interrupts, held } = vm;
    let vcpu = vcpus.remove(0);
    let mut sregs = vcpu.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    sregs.ds.base = window.start;
    // The I/O APIC.
    sregs.es.base = IOAPIC.start;
    vcpu.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.get_regs().unwrap();
    (regs.rip, regs.rflags, regs.rsp) = (CODE, 2, 0x8000);
    vcpu.set_regs(&regs).unwrap();
    let devices = Arc::new(Notes::default());
    let (sender, end) = channel();
    let mut bus = Bus::new();
    bus.insert(window.start, window.length, devices.clone()).unwrap();
    let surroundings = Surroundings {
        bus: Arc::new(bus),
        interrupts,
        held,
        entering: Box::new(|| Ok(())),
        ended: Box::new(move |end| sender.send(end).unwrap()),
    };
    let thread = VcpuThread::start(0, vcpu, surroundings).unwrap();
    Some(Machine { thread, end, devices, memory, interrupt, queue })
}

impl Machine {
    fn end(&self) -> VcpuEnd {
        self.end.recv_timeout(Duration::from_secs(10)).expect("the guest ends")
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        self.thread.counters().add_to(&mut counts);
        counts
    }
}

/// `mov al, 0xfe; out 0x64, al`
const RESET_BY_KEYBOARD: [u8; 4] = [0xb0, 0xfe, 0xe6, 0x64];

#[test]
fn the_keyboard_controller_resets_the_machine() {
    let Some(machine) = run(&RESET_BY_KEYBOARD) else { return };
    assert_eq!(machine.end(), VcpuEnd::Reset);
    assert_eq!(machine.counts(), BTreeMap::from([("io_out".into(), 1)]));
}

#[test]
fn nothing_answers_at_other_ports() {
    // in al, 0x64; mov [0x2000], al with cs:; in al, 0x80; mov cs:[0x2001], al; reset
    let mut code = vec![0xe4, 0x64, 0x2e, 0xa2, 0x00, 0x20, 0xe4, 0x80, 0x2e, 0xa2, 0x01, 0x20];
    code.extend(RESET_BY_KEYBOARD);
    let Some(machine) = run(&code) else { return };
    assert_eq!(machine.end(), VcpuEnd::Reset);
    assert_eq!(machine.memory.read_obj::<[u8; 2]>(GuestAddress(0x2000)).unwrap(), [0, 0xff]);
    assert_eq!(machine.counts()["io_in"], 2);
}

#[test]
fn registers_of_devices_are_read_and_written_and_kicks_do_not_leave_the_kernel() {
    // mov al, [0x10]; mov cs:[0x2000], al; mov eax, 7; mov [0x30], eax
    let mut code = vec![0xa0, 0x10, 0x00, 0x2e, 0xa2, 0x00, 0x20];
    code.extend([0x66, 0xb8, 7, 0, 0, 0, 0x66, 0xa3, 0x30, 0x00]);
    // xor eax, eax; mov [0x50], eax: queue 0; inc eax; mov [0x50], eax: there is no queue 1
    code.extend([0x66, 0x31, 0xc0, 0x66, 0xa3, 0x50, 0x00, 0x66, 0x40, 0x66, 0xa3, 0x50, 0x00]);
    code.extend(RESET_BY_KEYBOARD);
    let Some(machine) = run(&code) else { return };
    assert_eq!(machine.end(), VcpuEnd::Reset);
    assert_eq!(machine.memory.read_obj::<u8>(GuestAddress(0x2000)).unwrap(), 0x5a);
    let written = machine.devices.0.lock().unwrap().clone();
    assert_eq!(written, [(0x30, vec![7, 0, 0, 0]), (0x50, vec![1, 0, 0, 0])]);
    assert!(machine.queue.take());
}

#[test]
fn a_device_interrupts_the_guest_over_the_ioapic() {
    // The handler of vector 0x41 at 0x1800: reset.
    // Entry 1: es:[0] = 0x12; es:[0x10] = 0x41, unmasked, to APIC 0.
    let mut code = vec![];
    // mov word cs:[0x104], 0x1800; mov word cs:[0x106], 0
    code.extend([0x2e, 0xc7, 0x06, 0x04, 0x01, 0x00, 0x18]);
    code.extend([0x2e, 0xc7, 0x06, 0x06, 0x01, 0x00, 0x00]);
    // mov eax, 0x12; mov es:[0], eax; mov eax, 0x41; mov es:[0x10], eax
    code.extend([0x66, 0xb8, 0x12, 0, 0, 0, 0x26, 0x66, 0xa3, 0x00, 0x00]);
    code.extend([0x66, 0xb8, 0x41, 0, 0, 0, 0x26, 0x66, 0xa3, 0x10, 0x00]);
    // mov eax, es:[0x10]; mov cs:[0x2000], eax
    code.extend([0x26, 0x66, 0xa1, 0x10, 0x00, 0x2e, 0x66, 0xa3, 0x00, 0x20]);
    // The local APIC on: mov ecx, 0x1b is on after reset; spurious vector register bit 8 by x2APIC:
    // mov ecx, 0x1b; rdmsr; or eax, 0xc00; wrmsr; mov ecx, 0x80f; mov eax, 0x1ff; xor edx, edx; wrmsr
    code.extend([0x66, 0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x66, 0x0d, 0x00, 0x0c, 0, 0, 0x0f, 0x30]);
    code.extend([0x66, 0xb9, 0x0f, 0x08, 0, 0, 0x66, 0xb8, 0xff, 0x01, 0, 0]);
    code.extend([0x66, 0x31, 0xd2, 0x0f, 0x30]);
    // mov eax, 7; mov [0x30], eax tells that all is set; sti; hlt; jmp to hlt
    code.extend([0x66, 0xb8, 7, 0, 0, 0, 0x66, 0xa3, 0x30, 0x00, 0xfb, 0xf4, 0xeb, 0xfd]);
    let Some(machine) = run(&code) else { return };
    machine.memory.write_slice(&RESET_BY_KEYBOARD, GuestAddress(0x1800)).unwrap();
    // The line may be raised before it is routed: an edge that comes too early is lost, as on the
    // chip, so the guest's word is waited for.
    while machine.devices.0.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    machine.interrupt.raise();
    assert_eq!(machine.end(), VcpuEnd::Reset);
    assert_eq!(machine.memory.read_obj::<u32>(GuestAddress(0x2000)).unwrap(), 0x41);
    let counts = machine.counts();
    assert_eq!((counts["ioapic_write"], counts["ioapic_read"]), (2, 1), "{counts:?}");
}

#[test]
fn a_triple_fault_is_a_reset() {
    if !matches!(crate::kvm::probe(), husk_vmm_config::KvmStatus::Sound { .. }) {
        // One that interprets kernel code delivers the fault for ever.
        return eprintln!("SKIP: no sound /dev/kvm here");
    }
    // lidt cs:[0x2000] with a limit of zero; ud2
    let Some(machine) = run(&[0x2e, 0x0f, 0x01, 0x1e, 0x00, 0x20, 0x0f, 0x0b]) else { return };
    assert_eq!(machine.end(), VcpuEnd::Reset);
    assert_eq!(machine.counts(), BTreeMap::from([("shutdown".into(), 1)]));
}

#[test]
fn an_endless_loop_ends_when_its_thread_is_dropped() {
    for _ in 0..50 {
        // jmp to itself
        let Some(machine) = run(&[0xeb, 0xfe]) else { return };
        machine.thread.stop();
        assert_eq!(machine.end(), VcpuEnd::Stopped);
    }
}

#[test]
fn a_halted_vcpu_ends_when_its_thread_is_dropped() {
    for _ in 0..50 {
        // cli; hlt
        let Some(Machine { thread, end, .. }) = run(&[0xfa, 0xf4]) else { return };
        drop(thread);
        assert_eq!(end.recv().unwrap(), VcpuEnd::Stopped);
    }
}

#[test]
fn writes_where_nothing_is_change_nothing() {
    // mov ax, 0xf000; mov es, ax; mov al, es:[0]; mov cs:[0x2000], al: behind 32 MiB there is the gap
    let code = [&[0x67, 0x66, 0xa1, 0x00, 0x00, 0x00, 0x00][..], &RESET_BY_KEYBOARD].concat();
    let Some(machine) = run(&code) else { return };
    assert_eq!(machine.end(), VcpuEnd::Reset);
}
