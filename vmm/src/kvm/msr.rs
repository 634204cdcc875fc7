//! Model-specific registers: which the guest may use, and what some hold when it starts.
//!
//! KVM knows several hundred. A guest has a use for those below; any other access faults in the
//! guest, as on a processor that does not have the register, without leaving it. The numbers are
//! those of Intel's manual, volume 4, and AMD's, volume 2, appendix A.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{
    Cap, Kvm, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd, VmFd,
};

use super::error::{KvmError, call};

/// Neighbouring registers that the guest may read and write, and why.
type Allowed = (u32, u32, &'static str);

/// In ascending order. The registers of an x2APIC are not KVM's to filter: always allowed.
const ALLOWED: [Allowed; 38] = [
    (0x10, 0x12, "time stamp counter; kvmclock's first registers"),
    (0x17, 0x17, "platform identifier, read with the microcode's version"),
    (0x1b, 0x1b, "where the local APIC is, and its mode"),
    (0x3a, 0x3b, "feature control, locked; adjustment of the counter"),
    (0x48, 0x49, "speculation control, as the guest's own mitigation"),
    (0x79, 0x79, "microcode update: ignored"),
    (0x8b, 0x8b, "the microcode's version"),
    (0xce, 0xce, "platform information: whether CPUID can fault"),
    (0xfe, 0xfe, "how many memory type ranges there are"),
    (0x10a, 0x10b, "what the processor is not vulnerable to; flushing the first cache"),
    (0x122, 0x122, "turning transactions off"),
    (0x140, 0x140, "faulting CPUID, for sandboxes in the guest"),
    (0x174, 0x176, "SYSENTER"),
    (0x179, 0x17b, "machine check capabilities: none, but asked for"),
    (0x1a0, 0x1a0, "fast string operations"),
    (0x1c4, 0x1c5, "extended feature disable"),
    (0x1d9, 0x1d9, "single steps by branches"),
    (0x200, 0x26f, "memory types: the kernel reads what firmware would have set"),
    (0x277, 0x277, "page attribute table"),
    (0x2ff, 0x2ff, "default memory type"),
    (0x6a0, 0x6a8, "shadow stacks of processes"),
    (0x6e0, 0x6e0, "the timer"),
    (0xda0, 0xda0, "state saved by supervisors"),
    (0x4b56_4d00, 0x4b56_4d04, "kvmclock, stolen time, end of interrupt"),
    (0xc000_0080, 0xc000_0084, "long mode and SYSCALL"),
    (0xc000_0100, 0xc000_0103, "segment bases, processor number"),
    (0xc001_0010, 0xc001_0010, "system configuration: read for memory encryption"),
    (0xc001_0015, 0xc001_0015, "hardware configuration: read for the counter's rate"),
    (0xc001_001a, 0xc001_001a, "top of memory: read on AMD"),
    (0xc001_001d, 0xc001_001d, "second top of memory: read on AMD"),
    (0xc001_001f, 0xc001_001f, "northbridge configuration: read on AMD"),
    (0xc001_0055, 0xc001_0055, "interrupt pending: read for C1E"),
    (0xc001_011f, 0xc001_011f, "speculation control by the hypervisor"),
    (0xc001_0140, 0xc001_0141, "errata that the guest's kernel works around"),
    (0xc001_1020, 0xc001_1023, "load, store and cache configuration: errata"),
    (0xc001_1029, 0xc001_1029, "decode configuration: whether LFENCE serialises"),
    (0xc001_102a, 0xc001_102a, "bus unit configuration: errata"),
    (0xc001_102c, 0xc001_102d, "execution configuration: errata"),
];

/// A filter's piece covers at most so many registers here: KVM takes 12288, and 16 pieces.
const PIECE: u32 = 0x1000;

/// A piece of the filter: registers from `base` on, a bit for each.
#[derive(Debug)]
struct Piece {
    base: u32,
    bits: Vec<u8>,
}

/// Lets the guest use what it has a use for. Hosts before Linux 5.10 cannot filter; KVM's own
/// choice holds there.
pub(super) fn install_filter(kvm: &Kvm, vm: &VmFd) -> Result<(), KvmError> {
    if !kvm.check_extension(Cap::X86MsrFilter) {
        return Ok(());
    }
    let pieces = pieces();
    let ranges: Vec<_> = pieces
        .iter()
        .map(|piece| MsrFilterRange {
            flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
            base: piece.base,
            msr_count: PIECE,
            bitmap: &piece.bits,
        })
        .collect();
    vm.set_msr_filter(MsrFilterDefaultAction::DENY, &ranges).map_err(call("filter MSRs"))
}

fn pieces() -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (first, last, _) in ALLOWED {
        for index in first..=last {
            let base = index - index % PIECE;
            if pieces.last().is_none_or(|piece| piece.base != base) {
                pieces.push(Piece { base, bits: vec![0; PIECE as usize / 8] });
            }
            let piece = pieces.last_mut().expect("one was just pushed");
            let bit = (index - base) as usize;
            piece.bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    pieces
}

/// Registers that do not start with what a kernel expects of firmware.
const BOOT: [(u32, u64); 2] = [
    // Fast string operations, which Linux copies with, are on.
    (0x1a0, 1),
    // Memory is cached by writing back, and the ranges that say otherwise are on, but empty.
    (0x2ff, 1 << 11 | 6),
];

/// Sets what a vCPU starts with.
pub(super) fn set_boot_values(vcpu: &VcpuFd) -> Result<(), KvmError> {
    let entries = BOOT.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let msrs = Msrs::from_entries(&entries).expect("a handful of registers fits");
    let set = vcpu.set_msrs(&msrs).map_err(call("set MSRs"))?;
    match BOOT.get(set) {
        Some(&(index, _)) => Err(KvmError::Msr { index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(index: u32) -> bool {
        let pieces = pieces();
        let piece = pieces.iter().find(|piece| piece.base == index - index % PIECE);
        piece.is_some_and(|piece| {
            let bit = (index - piece.base) as usize;
            piece.bits[bit / 8] >> (bit % 8) & 1 == 1
        })
    }

    #[test]
    fn the_filter_allows_the_table_and_nothing_else() {
        for (first, last, reason) in ALLOWED {
            assert!(first <= last && !reason.is_empty());
            assert!((first..=last).all(allowed), "{first:#x}");
        }
        // SMM, performance counters, nested virtualization, PL1 power, AMD's counters, its VMs.
        for index in [0x9e, 0xc1, 0x186, 0x345, 0x480, 0x610, 0xc001_0000, 0xc001_0114, 0xc001_0117]
        {
            assert!(!allowed(index), "{index:#x}");
        }
        assert!(pieces().len() <= 16, "more than KVM takes");
        assert!(ALLOWED.windows(2).all(|pair| pair[0].1 < pair[1].0), "in order");
    }
}
