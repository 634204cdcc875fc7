//! A VM, built in the one order that is fast.
//!
//! ```text
//! Vm<Bare> ─memory─▶ Vm<Slots> ─interrupts─▶ Vm<Interrupts> ─vcpus─▶ Vm<Vcpus> ─lines─▶ ReadyVm
//! ```
//!
//! On Linux 6.18 whatever registers an address range first (a full interrupt controller, an
//! ioeventfd) starts a grace period of the kernel's, for which every memory slot added later has
//! to wait: 7 ms and more for each microVM. In this order nobody waits. Each step takes the VM as
//! the step before has left it, so that another order is no program:
//!
//! - all memory slots, with those that KVM adds for itself;
//! - local APICs in the kernel, which as a "split" controller register no address range;
//! - vCPUs;
//! - ioeventfds and irqfds.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::sync::Arc;

use husk_devices::virtio::Memory;
use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_MEM_READONLY, kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::capability;
use super::cpuid::CpuModel;
use super::error::{KvmError, call};
use super::interrupt::InterruptController;
use super::msr;
use crate::memory::{IDENTITY_MAP, Layout, Range, ReadOnlyMapping, TSS};

/// A VM and how far it has come.
#[derive(Debug)]
pub(crate) struct Vm<Stage> {
    kvm: Kvm,
    fd: Arc<VmFd>,
    // The slots lead to it, as long as the VM exists.
    memory: Option<Memory>,
    read_only: Vec<ReadOnlyMapping>,
    cpu: CpuModel,
    vcpus: u8,
    stage: Stage,
}

/// Nothing but a descriptor.
#[derive(Debug)]
pub(crate) struct Bare;
/// All memory is there.
#[derive(Debug)]
pub(crate) struct Slots;
/// Interrupts have a way.
#[derive(Debug)]
pub(crate) struct Interrupts(Arc<InterruptController>);
/// Processors are there.
#[derive(Debug)]
pub(crate) struct Vcpus(Arc<InterruptController>, Vec<VcpuFd>);

/// A file in the guest's memory, which no guest can change.
#[derive(Debug)]
pub(crate) struct ReadOnlySlot {
    /// Where the guest sees it.
    pub(crate) range: Range,
    /// What it sees there, as long.
    pub(crate) mapping: ReadOnlyMapping,
}

/// A device's connections: its interrupt line, and what rings when a queue is notified.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Interrupt line of the I/O APIC.
    pub(crate) gsi: u32,
    /// Event descriptor that raises the line.
    pub(crate) interrupt: BorrowedFd<'a>,
    /// Address of the register that notifies.
    pub(crate) notify: u64,
    /// Event descriptors that are rung by writing a queue's index there, in their order.
    pub(crate) queues: Vec<BorrowedFd<'a>>,
}

/// A VM that can run.
#[derive(Debug)]
pub(crate) struct ReadyVm {
    /// One for each vCPU, in the order of their numbers.
    pub(crate) vcpus: Vec<VcpuFd>,
    /// For the exits of all of them.
    pub(crate) interrupts: Arc<InterruptController>,
    /// What has to exist as long as they do.
    pub(crate) held: Arc<Held>,
}

/// The VM itself and what its slots lead to.
#[derive(Debug)]
pub(crate) struct Held {
    _fd: Arc<VmFd>,
    _memory: Option<Memory>,
    _read_only: Vec<ReadOnlyMapping>,
}

impl Vm<Bare> {
    /// A new VM, once everything that it will need is known to be there.
    pub(crate) fn new(kvm: Kvm, vcpus: u8, layout: &Layout) -> Result<Self, KvmError> {
        capability::check(&kvm, vcpus, !layout.pmem().is_empty())?;
        let cpu = CpuModel::new(&kvm, vcpus)?;
        let bits = cpu.address_bits();
        if layout.end() > 1_u64.checked_shl(bits).unwrap_or(u64::MAX) {
            return Err(KvmError::AddressBits { end: layout.end(), bits });
        }
        let fd = Arc::new(kvm.create_vm().map_err(call("create a VM"))?);
        Ok(Self { kvm, fd, memory: None, read_only: Vec::new(), cpu, vcpus, stage: Bare })
    }

    /// Gives the guest all of its memory.
    pub(crate) fn with_memory(
        mut self,
        memory: Memory,
        read_only: Vec<ReadOnlySlot>,
    ) -> Result<Vm<Slots>, KvmError> {
        let slots = memory.iter().map(|region| kvm_userspace_memory_region {
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
            ..Default::default()
        });
        let fixed = read_only.iter().map(|slot| kvm_userspace_memory_region {
            flags: KVM_MEM_READONLY,
            guest_phys_addr: slot.range.start,
            memory_size: slot.range.length.min(slot.mapping.len()),
            userspace_addr: slot.mapping.host_address(),
            ..Default::default()
        });
        for (number, slot) in (0..).zip(slots.chain(fixed)) {
            let region = kvm_userspace_memory_region { slot: number, ..slot };
            // SAFETY: address and length are those of a mapping that `memory` or `read_only` owns,
            // which `self` keeps as long as the VM; the layout lets no two slots overlap.
            unsafe { self.fd.set_user_memory_region(region) }.map_err(call("add a memory slot"))?;
        }
        // On Intel processors these become slots as well.
        let tss = usize::try_from(TSS.start).expect("an address below 4 GiB");
        self.fd.set_tss_address(tss).map_err(call("place the task state segment"))?;
        let identity_map = self.fd.set_identity_map_address(IDENTITY_MAP.start);
        identity_map.map_err(call("place the identity map"))?;
        self.memory = Some(memory);
        self.read_only = read_only.into_iter().map(|slot| slot.mapping).collect();
        Ok(self.into_stage(|_| Slots))
    }
}

impl Vm<Slots> {
    /// Local APICs in the kernel, and an I/O APIC with so many lines here.
    pub(crate) fn with_interrupts(self, lines: u8) -> Result<Vm<Interrupts>, KvmError> {
        let mut cap = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
        cap.args[0] = u64::from(lines);
        self.fd.enable_cap(&cap).map_err(call("set the local APICs up"))?;
        let controller = Arc::new(InterruptController::new(self.fd.clone(), lines));
        Ok(self.into_stage(|_| Interrupts(controller)))
    }
}

impl Vm<Interrupts> {
    /// The processors, numbered from 0, as after a reset.
    pub(crate) fn with_vcpus(self) -> Result<Vm<Vcpus>, KvmError> {
        msr::install_filter(&self.kvm, &self.fd)?;
        let mut vcpus = Vec::with_capacity(self.vcpus.into());
        for number in 0..self.vcpus {
            let vcpu = self.fd.create_vcpu(number.into()).map_err(call("create a vCPU"))?;
            vcpu.set_cpuid2(&self.cpu.of_vcpu(number)).map_err(call("choose the processor"))?;
            msr::set_boot_values(&vcpu)?;
            vcpus.push(vcpu);
        }
        Ok(self.into_stage(|Interrupts(controller)| Vcpus(controller, vcpus)))
    }
}

impl Vm<Vcpus> {
    /// Connects the devices.
    pub(crate) fn with_lines<'a>(
        self,
        lines: impl IntoIterator<Item = Line<'a>>,
    ) -> Result<ReadyVm, KvmError> {
        for line in lines {
            let interrupt = self.fd.register_irqfd(&event(line.interrupt)?, line.gsi);
            interrupt.map_err(call("connect a device's interrupt"))?;
            for (queue, kick) in (0_u32..).zip(line.queues) {
                let address = IoEventAddress::Mmio(line.notify);
                let notify = self.fd.register_ioevent(&event(kick)?, &address, queue);
                notify.map_err(call("connect a device's queue"))?;
            }
        }
        let Vcpus(interrupts, vcpus) = self.stage;
        let held = Held { _fd: self.fd, _memory: self.memory, _read_only: self.read_only };
        Ok(ReadyVm { vcpus, interrupts, held: Arc::new(held) })
    }
}

impl<Stage> Vm<Stage> {
    fn into_stage<Next>(self, next: impl FnOnce(Stage) -> Next) -> Vm<Next> {
        let Self { kvm, fd, memory, read_only, cpu, vcpus, stage } = self;
        Vm { kvm, fd, memory, read_only, cpu, vcpus, stage: next(stage) }
    }
}

/// The descriptor as the library wants it; KVM keeps what it stands for, not the descriptor.
fn event(fd: BorrowedFd<'_>) -> Result<EventFd, KvmError> {
    let failed = |source: io::Error| KvmError::Call { attempt: "duplicate a descriptor", source };
    let fd = fd.try_clone_to_owned().map_err(failed)?.into_raw_fd();
    // SAFETY: the descriptor is new and nobody else owns it.
    Ok(unsafe { EventFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests;
