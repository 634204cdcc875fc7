//! The first vCPU's registers. The others wait for it, as after a reset.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

use super::{linux64, pvh};
use crate::kvm::error::{KvmError, call};

/// Where the first vCPU begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BootInfo {
    /// In 32-bit code, without paging.
    Pvh {
        /// Its address.
        entry: u32,
    },
    /// In 64-bit code, with page tables of ours.
    Linux64 {
        /// Its address.
        entry: u64,
    },
}

/// Protection on; the coprocessor's bit is fixed.
const CR0_PROTECTED: u64 = 1 | 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
/// The bit of the flags that is always one.
const RFLAGS: u64 = 2;
/// Somewhere in low memory, away from everything else.
const STACK: u64 = 0x8ff0;

impl BootInfo {
    /// Sets the first vCPU's registers.
    pub(crate) fn apply(self, vcpu: &VcpuFd) -> Result<(), KvmError> {
        let mut sregs = vcpu.get_sregs().map_err(call("read the system registers"))?;
        match self {
            Self::Pvh { .. } => protected_mode(&mut sregs),
            Self::Linux64 { .. } => long_mode(&mut sregs),
        }
        vcpu.set_sregs(&sregs).map_err(call("set the system registers"))?;
        vcpu.set_regs(&self.registers()).map_err(call("set the registers"))
    }

    fn registers(self) -> kvm_regs {
        let regs = kvm_regs { rflags: RFLAGS, ..Default::default() };
        match self {
            Self::Pvh { entry } => kvm_regs { rip: entry.into(), rbx: pvh::START_INFO, ..regs },
            Self::Linux64 { entry } => {
                kvm_regs { rip: entry, rsi: linux64::ZERO_PAGE, rsp: STACK, rbp: STACK, ..regs }
            }
        }
    }
}

/// Flat segments, as PVH wants them.
fn protected_mode(sregs: &mut kvm_sregs) {
    segments(sregs, segment(0x10, 0xb, false), segment(0x18, 0x3, false));
    sregs.cr0 = CR0_PROTECTED;
    sregs.cr4 = 0;
}

/// 64-bit code over page tables that map each address to itself.
fn long_mode(sregs: &mut kvm_sregs) {
    segments(sregs, segment(0x10, 0xb, true), segment(0x18, 0x3, false));
    let length = size_of_val(&linux64::DESCRIPTORS);
    let limit = u16::try_from(length - 1).expect("five descriptors");
    sregs.gdt = kvm_dtable { base: linux64::GDT, limit, ..Default::default() };
    sregs.cr3 = linux64::PAGE_TABLES;
    sregs.cr4 |= CR4_PAE;
    sregs.efer |= EFER_LONG_MODE;
    sregs.cr0 = CR0_PROTECTED | CR0_PAGING;
}

fn segments(sregs: &mut kvm_sregs, code: kvm_segment, data: kvm_segment) {
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    // A busy task state segment of the least length.
    sregs.tr =
        kvm_segment { limit: 0x67, type_: 0xb, present: 1, selector: 0x20, ..Default::default() };
}

/// All addresses, for the kernel only.
fn segment(selector: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}
