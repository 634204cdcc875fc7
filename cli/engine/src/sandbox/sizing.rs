//! How large a microVM is made.

use husk_api::models::HostConfig;
use husk_vmm_config::{Accelerator, MEMORY_MIB_MAX, VCPUS_MAX};

/// Guest memory in MiB without `--memory`. It is sparse: what the guest never touches costs
/// nothing.
const MEMORY_DEFAULT_MIB: u64 = 1024;

/// What kernel and agent need beside the workload, in MiB, whatever the size of the guest.
const OVERHEAD_MIB: u64 = 64;

/// One part in so many of guest memory goes to the kernel's page structures and slab.
const OVERHEAD_PART: u64 = 32;

/// Virtual CPUs without `--cpus` under KVM, at most: more threads than a container commonly uses
/// cost boot time.
const VCPUS_DEFAULT_MAX: u64 = 4;

/// Guest memory in MiB: `--memory` is what the workload gets, so the guest gets more.
pub(crate) fn memory_mib(host: &HostConfig) -> u32 {
    let limit = host.memory.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    let mib = limit.map_or(MEMORY_DEFAULT_MIB, |bytes| {
        let limit_mib = bytes.div_ceil(1 << 20);
        limit_mib.saturating_add(OVERHEAD_MIB).saturating_add(limit_mib / OVERHEAD_PART)
    });
    u32::try_from(mib).map_or(MEMORY_MIB_MAX, |mib| mib.min(MEMORY_MIB_MAX))
}

/// Virtual CPUs: as many as `--cpus` can keep busy. Without it, what the host has up to a small
/// number; under software emulation one, as each costs a thread that emulates even when idle.
pub(crate) fn vcpus(host: &HostConfig, accelerator: Accelerator, host_cpus: usize) -> u8 {
    let nano_cpus = host.nano_cpus.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let bandwidth = match (host.cpu_quota, host.cpu_period.filter(|period| *period > 0)) {
        (Some(quota), period) if quota > 0 => {
            u64::try_from(quota).ok().zip(u64::try_from(period.unwrap_or(100_000)).ok())
        }
        _ => None,
    };
    let host_cpus = u64::try_from(host_cpus).unwrap_or(u64::MAX).max(1);
    let wanted = match (nano_cpus, bandwidth) {
        (Some(nano_cpus), _) => nano_cpus.div_ceil(1_000_000_000),
        (None, Some((quota, period))) => quota.div_ceil(period).min(host_cpus),
        (None, None) => match accelerator {
            Accelerator::Kvm => host_cpus.min(VCPUS_DEFAULT_MAX),
            Accelerator::Software => 1,
        },
    };
    u8::try_from(wanted).unwrap_or(VCPUS_MAX).clamp(1, VCPUS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_memory(bytes: i64) -> HostConfig {
        HostConfig { memory: Some(bytes), ..HostConfig::default() }
    }

    #[test]
    fn guest_memory_is_the_limit_and_what_the_guest_needs_itself() {
        assert_eq!(memory_mib(&HostConfig::default()), 1024);
        assert_eq!(memory_mib(&with_memory(0)), 1024);
        assert_eq!(memory_mib(&with_memory(6 << 20)), 70);
        assert_eq!(memory_mib(&with_memory(512 << 20)), 512 + 64 + 16);
        assert_eq!(memory_mib(&with_memory(i64::MAX)), MEMORY_MIB_MAX);
    }

    #[test]
    fn vcpus_follow_cpus() {
        let with = |nano: i64| HostConfig { nano_cpus: Some(nano), ..HostConfig::default() };
        assert_eq!(vcpus(&with(500_000_000), Accelerator::Software, 8), 1);
        assert_eq!(vcpus(&with(1_500_000_000), Accelerator::Software, 8), 2);
        assert_eq!(vcpus(&HostConfig::default(), Accelerator::Software, 8), 1);
        assert_eq!(vcpus(&HostConfig::default(), Accelerator::Kvm, 8), 4);
        assert_eq!(vcpus(&HostConfig::default(), Accelerator::Kvm, 2), 2);
        let quota = HostConfig { cpu_quota: Some(250_000), ..HostConfig::default() };
        assert_eq!(vcpus(&quota, Accelerator::Kvm, 8), 3);
        assert_eq!(vcpus(&with(64_000_000_000), Accelerator::Kvm, 64), VCPUS_MAX);
    }
}
