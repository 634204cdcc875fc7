//! `/dev/kvm`: whether it is worth using, and microVMs on it.
//!
//! | module | owns |
//! |---|---|
//! | `probe` | what kind of KVM this host has |
//! | `capability` | what we need of it, each thing with its error |
//! | `vm` | the VM, built in the one order that is fast |
//! | `cpuid`, `msr` | what CPU the guest sees |
//! | `boot` | what the guest finds in its memory and registers when it starts |
//! | `ioapic`, `interrupt` | the I/O APIC, and its way to KVM |
//! | `vcpu`, `kick`, `exits` | the threads that run the guest, ending them, counting why they left it |
//!
//! There is no PCI, no ACPI and no firmware. Processors and interrupt lines come from an MP table,
//! devices from the kernel's command line, time from kvmclock: the guest's kernel is ours and
//! built without ACPI, which would bring 300 KiB of code and a bytecode interpreter into it, and
//! tens of milliseconds into its boot, to say the same.

mod boot;
mod capability;
mod cpuid;
mod error;
mod exits;
mod interrupt;
mod ioapic;
mod kick;
mod msr;
mod probe;
mod vcpu;
mod vm;

use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd};

use kvm_ioctls::Kvm;

pub(crate) use boot::prepare;
pub(crate) use error::KvmError;
pub(crate) use interrupt::InterruptController;
pub(crate) use probe::probe;
pub(crate) use vcpu::{Surroundings, VcpuEnd, VcpuThread};
pub(crate) use vm::{Held, Line, ReadOnlySlot, Vm};

/// Takes `/dev/kvm` over, which whoever opened it has made sure that it is.
pub(crate) fn adopt(device: File) -> Kvm {
    // SAFETY: the descriptor is open and owned, and `device` gives it up.
    unsafe { Kvm::from_raw_fd(device.into_raw_fd()) }
}
