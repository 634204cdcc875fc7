//! Limits of the container's cgroup and of its process.

use husk_api::models::{HostConfig, ResourcesUlimits};
use husk_api::{ApiError, ErrorCode};
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

/// The period of CPU bandwidth in microseconds, the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// Open files, as a process has them under systemd: soft low for programs that use `select` or
/// close all they could have, hard high for those that ask.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Names of `--ulimit`.
const ULIMITS: [(&str, PosixRlimitType); 15] = [
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];

/// The cgroup's limits.
pub(super) fn cgroup(host: &HostConfig) -> LinuxResources {
    let mut resources = LinuxResourcesBuilder::default();
    if let Some(limit) = host.memory.filter(|limit| *limit > 0) {
        let memory = LinuxMemoryBuilder::default().limit(limit).swap(limit);
        resources = resources.memory(memory.build().expect("every field is optional"));
    }
    if let Some(limit) = host.pids_limit.filter(|limit| *limit > 0) {
        let pids = LinuxPidsBuilder::default().limit(limit);
        resources = resources.pids(pids.build().expect("every field has a value"));
    }
    let mut cpu = LinuxCpuBuilder::default();
    let positive =
        |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    if let Some(nano_cpus) = positive(host.nano_cpus) {
        let quota = u128::from(nano_cpus) * u128::from(CPU_PERIOD_US) / 1_000_000_000;
        cpu = cpu.period(CPU_PERIOD_US).quota(i64::try_from(quota.max(1000)).unwrap_or(i64::MAX));
    }
    if let Some(period) = positive(host.cpu_period) {
        cpu = cpu.period(period);
    }
    if let Some(quota) = host.cpu_quota.filter(|quota| *quota > 0) {
        cpu = cpu.quota(quota);
    }
    if let Some(shares) = positive(host.cpu_shares) {
        cpu = cpu.shares(shares);
    }
    resources
        .cpu(cpu.build().expect("every field is optional"))
        .build()
        .expect("every field is optional")
}

/// The process's limits.
///
/// # Errors
/// `InvalidArgument` for an unknown name, or a soft limit above its hard one.
pub(super) fn process(host: &HostConfig) -> Result<Vec<PosixRlimit>, ApiError> {
    let mut limits = vec![rlimit(PosixRlimitType::RlimitNofile, OPEN_FILES.0, OPEN_FILES.1)];
    for ulimit in host.ulimits.iter().flatten() {
        let limit = parse(ulimit)?;
        limits.retain(|other| other.typ() != limit.typ());
        limits.push(limit);
    }
    Ok(limits)
}

fn parse(ulimit: &ResourcesUlimits) -> Result<PosixRlimit, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidArgument, message);
    let name = ulimit.name.as_deref().unwrap_or_default();
    let kind = ULIMITS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| *kind)
        .ok_or_else(|| invalid(format!("invalid ulimit type: {name}")))?;
    // -1 is "unlimited", which is RLIM_INFINITY.
    let value = |number: Option<i64>| u64::try_from(number.unwrap_or(0)).unwrap_or(u64::MAX);
    let (soft, hard) = (value(ulimit.soft), value(ulimit.hard));
    if soft > hard {
        return Err(invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {name} {soft} > {hard}"
        )));
    }
    Ok(rlimit(kind, soft, hard))
}

fn rlimit(kind: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
    PosixRlimitBuilder::default()
        .typ(kind)
        .soft(soft)
        .hard(hard)
        .build()
        .expect("every field has a value")
}
