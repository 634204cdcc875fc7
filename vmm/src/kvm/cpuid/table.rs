//! What is taken from KVM's processor, and what is added, each with its reason.

use kvm_bindings::kvm_cpuid_entry2;

/// One of the four registers of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl Register {
    /// Its place in an entry.
    pub(super) fn of(self, entry: &mut kvm_cpuid_entry2) -> &mut u32 {
        match self {
            Self::Eax => &mut entry.eax,
            Self::Ebx => &mut entry.ebx,
            Self::Ecx => &mut entry.ecx,
            Self::Edx => &mut entry.edx,
        }
    }
}

/// Bits of a leaf that are not as KVM has them.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) leaf: u32,
    /// None for every subleaf.
    pub(super) subleaf: Option<u32>,
    pub(super) register: Register,
    pub(super) clear: u32,
    pub(super) set: u32,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by people, and by a test"))]
    pub(super) reason: &'static str,
}

/// A leaf that reads as zeros.
#[derive(Debug)]
pub(super) struct Hidden {
    first: u32,
    last: u32,
    /// None for every subleaf.
    subleaf: Option<u32>,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by people, and by a test"))]
    pub(super) reason: &'static str,
}

impl Hidden {
    /// Whether an entry is one of these.
    pub(super) fn covers(&self, entry: &kvm_cpuid_entry2) -> bool {
        (self.first..=self.last).contains(&entry.function)
            && self.subleaf.is_none_or(|subleaf| subleaf == entry.index)
    }
}

const fn hide(leaf: u32, reason: &'static str) -> Hidden {
    Hidden { first: leaf, last: leaf, subleaf: None, reason }
}

const fn hide_subleaf(leaf: u32, subleaf: u32, reason: &'static str) -> Hidden {
    Hidden { first: leaf, last: leaf, subleaf: Some(subleaf), reason }
}

/// Leaves without a use in a microVM.
pub(super) const HIDDEN: [Hidden; 14] = [
    hide(0x3, "a serial number would tell on which machine the guest runs"),
    hide(0x5, "MONITOR is hidden: a guest that waits so keeps its host CPU"),
    hide(0xa, "no performance monitoring: counters tell of the host's other guests"),
    hide(0xb, "replaced by the guest's own topology"),
    hide_subleaf(0xd, 17, "AMX: 8 KiB of state in every thread, and a permission from the host"),
    hide_subleaf(0xd, 18, "AMX: 8 KiB of state in every thread, and a permission from the host"),
    hide(0x12, "SGX: enclaves are the host's to give"),
    hide(0x14, "no processor trace: it writes to physical addresses"),
    Hidden { first: 0x1b, last: 0x1e, subleaf: None, reason: "AMX and platform details" },
    hide(0x1f, "replaced by the guest's own topology"),
    hide(0x8000_000a, "no SVM: microVMs do not nest"),
    hide(0x8000_001b, "no instruction based sampling: it is performance monitoring"),
    hide(0x8000_001f, "no memory encryption: we do not set it up"),
    hide(0x8000_0022, "no performance monitoring: counters tell of the host's other guests"),
];

const fn change(
    leaf: u32,
    register: Register,
    clear: u32,
    set: u32,
    reason: &'static str,
) -> Change {
    Change { leaf, subleaf: None, register, clear, set, reason }
}

const fn change_first(leaf: u32, register: Register, clear: u32, reason: &'static str) -> Change {
    Change { leaf, subleaf: Some(0), register, clear, set: 0, reason }
}

/// Single bits.
pub(super) const CHANGES: [Change; 26] = [
    change(1, Register::Ecx, 0, 1 << 31, "a hypervisor: where Linux looks for kvmclock"),
    change(1, Register::Ecx, 0, 1 << 24, "TSC deadline timer: one register write to set it"),
    change(1, Register::Ecx, 0, 1 << 21, "x2APIC: registers by MSR, not by emulated memory access"),
    change(1, Register::Ecx, 1 << 2 | 1 << 4, 0, "no debug store: it is performance monitoring"),
    change(1, Register::Ecx, 1 << 3, 0, "no MONITOR: a guest that waits so keeps its host CPU"),
    change(1, Register::Ecx, 1 << 5 | 1 << 6, 0, "no VMX, no SMX: microVMs do not nest"),
    change(1, Register::Ecx, 1 << 7 | 1 << 8, 0, "frequency and heat are the host's"),
    change(1, Register::Ecx, 1 << 15, 0, "no performance capabilities without the counters"),
    change(1, Register::Edx, 1 << 7 | 1 << 14, 0, "machine checks are the host's to handle"),
    change(1, Register::Edx, 1 << 18 | 1 << 21, 0, "no serial number, no debug store"),
    change(1, Register::Edx, 1 << 22 | 1 << 29, 0, "heat is the host's"),
    change(6, Register::Eax, !(1 << 2), 0, "power is the host's; the APIC timer never stops"),
    change(6, Register::Ebx, u32::MAX, 0, "no temperature sensors"),
    change(6, Register::Ecx, u32::MAX, 0, "no frequency counters: they tell of the host's load"),
    change_first(7, Register::Ebx, 1 << 2, "SGX: enclaves are the host's to give"),
    change_first(7, Register::Ebx, 1 << 12 | 1 << 15, "cache allocation is the host's"),
    change_first(7, Register::Ebx, 1 << 14, "MPX: gone from Linux and from processors"),
    change_first(7, Register::Ebx, 1 << 25, "no processor trace: it writes to physical addresses"),
    change_first(7, Register::Ecx, 1 << 30, "SGX: enclaves are the host's to give"),
    change_first(7, Register::Ecx, 1 << 5, "UMWAIT: a process that waits so keeps its host CPU"),
    change_first(
        7,
        Register::Edx,
        1 << 22 | 1 << 24 | 1 << 25,
        "AMX: 8 KiB of state, and permission",
    ),
    change_first(0xd, Register::Eax, 0b11 << 17 | 0b11 << 3, "AMX and MPX have no state"),
    // 0: clock, 3: its newer form, 5: stolen time, 6: cheap end of interrupt, 9 and 11: fewer
    // exits for shootdowns, 24: the clock is the same on all vCPUs. Hidden: 1 no-op I/O delays
    // (nothing to delay), 4, 10 and 14 page faults of the host told to the guest, 7 and 13
    // cooperation between spinning vCPUs (our kernel has no such locks), 12 polling on halt.
    change(
        0x4000_0001,
        Register::Eax,
        !(1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 24),
        0,
        "what a guest gains by: clock, stolen time, fewer exits; nothing of the host's paging",
    ),
    change(
        0x8000_0001,
        Register::Ecx,
        1 << 2 | 1 << 12,
        0,
        "no SVM, no SKINIT: microVMs do not nest",
    ),
    change(
        0x8000_0001,
        Register::Ecx,
        1 << 10 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 28,
        0,
        "no performance monitoring: counters tell of the host's other guests",
    ),
    change(
        0x8000_0001,
        Register::Ecx,
        1 << 13 | 1 << 29,
        0,
        "no watchdog of AMD's, no MONITORX: both keep the host busy",
    ),
];
