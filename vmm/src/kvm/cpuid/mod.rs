//! The processor that the guest sees: what KVM can give, less what a guest has no use for.
//!
//! The sources are Intel's manual, volume 2A, CPUID, and AMD's, volume 3, appendix E. Each change
//! is a row of `table` with its reason; processors are numbered in `topology`.

mod table;
mod topology;

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use kvm_ioctls::Kvm;

use super::error::{KvmError, call};

/// What all vCPUs of a guest have in common.
#[derive(Debug)]
pub(super) struct CpuModel {
    entries: Vec<kvm_cpuid_entry2>,
    vcpus: u8,
}

impl CpuModel {
    /// The model of a guest with so many vCPUs on this host.
    pub(super) fn new(kvm: &Kvm, vcpus: u8) -> Result<Self, KvmError> {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let supported = supported.map_err(call("ask KVM for its processor"))?;
        Ok(Self { entries: filtered(supported.as_slice()), vcpus })
    }

    /// Bits of a physical address.
    pub(super) fn address_bits(&self) -> u32 {
        let leaf = self.entries.iter().find(|entry| entry.function == 0x8000_0008);
        // What the manuals say of processors without the leaf.
        leaf.map_or(36, |entry| entry.eax & 0xff)
    }

    /// What vCPU `number` answers.
    pub(super) fn of_vcpu(&self, number: u8) -> CpuId {
        let entries = topology::numbered(&self.entries, number, self.vcpus);
        CpuId::from_entries(&entries).expect("no more leaves than KVM has")
    }
}

fn filtered(supported: &[kvm_cpuid_entry2]) -> Vec<kvm_cpuid_entry2> {
    let mut entries: Vec<_> = supported
        .iter()
        .filter(|entry| !table::HIDDEN.iter().any(|hidden| hidden.covers(entry)))
        .copied()
        .collect();
    for entry in &mut entries {
        let (leaf, subleaf) = (entry.function, entry.index);
        let rows = table::CHANGES
            .iter()
            .filter(|row| row.leaf == leaf && row.subleaf.is_none_or(|index| index == subleaf));
        for row in rows {
            let register = row.register.of(entry);
            *register = *register & !row.clear | row.set;
        }
    }
    entries
}

/// A leaf that has subleaves.
fn subleaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = registers;
    let flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { flags: 0, ..subleaf(function, 0, registers) }
    }

    #[test]
    fn what_is_hidden_is_gone_and_what_is_needed_is_set() {
        let all = u32::MAX;
        let supported = [
            leaf(1, [0, 0, all, all]),
            leaf(5, [all; 4]),
            leaf(0xa, [all; 4]),
            subleaf(0xd, 0, [all; 4]),
            subleaf(0xd, 17, [all; 4]),
            leaf(0x4000_0001, [all; 4]),
            leaf(0x8000_0001, [all; 4]),
            leaf(0x8000_000a, [all; 4]),
        ];
        let entries = filtered(&supported);
        let functions: Vec<_> = entries.iter().map(|entry| (entry.function, entry.index)).collect();
        assert_eq!(
            functions,
            [(1, 0), (0xd, 0), (0x4000_0001, 0), (0x8000_0001, 0)],
            "no MONITOR, no PMU, no AMX, no SVM"
        );
        let features = entries[0].ecx;
        assert_eq!(features >> 31, 1, "a hypervisor is there");
        assert_eq!(features >> 5 & 1, 0, "no VMX");
        assert_eq!(features >> 3 & 1, 0, "no MONITOR");
        assert_eq!(entries[1].eax & 0b11 << 17, 0, "no AMX state");
        assert_eq!(entries[2].eax & 1 << 3, 1 << 3, "kvmclock");
        assert_eq!(entries[2].eax & 1 << 4, 0, "no asynchronous page faults");
        assert_eq!(entries[3].ecx & 1 << 2, 0, "no SVM");
    }

    #[test]
    fn the_timer_and_the_apic_mode_are_there_even_where_kvm_does_not_list_them() {
        let entries = filtered(&[leaf(1, [0; 4])]);
        assert_eq!(entries[0].ecx, 1 << 31 | 1 << 24 | 1 << 21);
    }

    #[test]
    fn every_row_says_why() {
        assert!(table::CHANGES.iter().all(|row| row.reason.len() > 10));
        assert!(table::HIDDEN.iter().all(|row| row.reason.len() > 10));
    }
}
