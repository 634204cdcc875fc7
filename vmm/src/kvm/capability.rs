//! What we need of KVM. Checked before anything is built on it.

use kvm_ioctls::{Cap, Kvm};

use super::error::KvmError;

/// A capability, its name, what it is for, and the first Linux with it.
type Need = (Cap, &'static str, &'static str, &'static str);

/// What every microVM needs.
const NEEDS: [Need; 11] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY", "guest memory", "2.6.25"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID", "choosing what CPU the guest sees", "2.6.26"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR", "running real mode on Intel processors", "2.6.25"),
    (Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP", "local APICs in the kernel", "4.4"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING", "interrupts of devices", "2.6.30"),
    (Cap::Irqfd, "KVM_CAP_IRQFD", "interrupts of devices", "2.6.32"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD", "notifications from drivers", "2.6.32"),
    (Cap::MpState, "KVM_CAP_MP_STATE", "starting several vCPUs", "2.6.27"),
    (Cap::TscDeadlineTimer, "KVM_CAP_TSC_DEADLINE_TIMER", "the guest's timer", "3.5"),
    (Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK", "kvmclock", "2.6.33"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT", "stopping vCPUs", "4.11"),
];

/// What persistent memory needs beside.
const READ_ONLY: Need =
    (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM", "memory that the guest cannot write to", "3.7");

/// The API that has been stable since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// Whether this KVM can run a microVM of so many vCPUs, with read-only memory or without.
pub(super) fn check(kvm: &Kvm, vcpus: u8, read_only: bool) -> Result<(), KvmError> {
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(KvmError::Version(version));
    }
    first_missing(|cap| kvm.check_extension(cap), read_only)?;
    let most = kvm.get_max_vcpus();
    if usize::from(vcpus) > most {
        return Err(KvmError::Vcpus { wanted: vcpus, most });
    }
    Ok(())
}

fn first_missing(has: impl Fn(Cap) -> bool, read_only: bool) -> Result<(), KvmError> {
    let needs = NEEDS.into_iter().chain(read_only.then_some(READ_ONLY));
    for (cap, name, purpose, since) in needs {
        if !has(cap) {
            return Err(KvmError::Capability { name, purpose, since });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named() {
        for (missing, name, ..) in NEEDS.into_iter().chain([READ_ONLY]) {
            let number = missing as u32;
            let error = first_missing(|cap| cap as u32 != number, true).unwrap_err();
            assert!(error.to_string().contains(&format!("lacks {name}, ")), "{error}");
        }
        first_missing(|_| true, true).unwrap();
        first_missing(|cap| cap as u32 != READ_ONLY.0 as u32, false).unwrap();
    }
}
