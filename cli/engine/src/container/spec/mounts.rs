//! What is mounted in a container, and which paths are masked: Docker's defaults.

use std::path::PathBuf;

use husk_api::models::HostConfig;
use husk_api::{ApiError, ErrorCode};
use oci_spec::runtime::{Mount, MountBuilder};

/// Paths that Docker hides.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that Docker makes read-only.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Default size of `/dev/shm`.
const SHM_BYTES: i64 = 64 << 20;

/// The mounts, in the order in which they are made.
pub(super) fn wanted(host: &HostConfig) -> Vec<Mount> {
    let privileged = host.privileged == Some(true);
    let access = if privileged { "rw" } else { "ro" };
    let shm_size = format!("size={}", host.shm_size.filter(|size| *size > 0).unwrap_or(SHM_BYTES));
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[access, "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm_size]),
    ];
    let mut tmpfs: Vec<_> = host.tmpfs.iter().flatten().collect();
    tmpfs.sort();
    for (path, options) in tmpfs {
        mounts.retain(|mount| mount.destination() != &PathBuf::from(path));
        let mut all = vec!["nosuid", "nodev", "noexec"];
        let asked: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
        all.retain(|option| !asked.iter().any(|other| option.strip_prefix("no") == Some(other)));
        all.extend(asked.iter().filter(|option| !matches!(**option, "suid" | "dev" | "exec")));
        mounts.push(mount(path, "tmpfs", "tmpfs", &all));
    }
    mounts
}

/// Paths to hide; none in a privileged container.
pub(super) fn masked(host: &HostConfig) -> Vec<String> {
    paths(host, host.masked_paths.as_deref(), &MASKED)
}

/// Paths to make read-only; none in a privileged container.
pub(super) fn read_only(host: &HostConfig) -> Vec<String> {
    paths(host, host.readonly_paths.as_deref(), &READ_ONLY)
}

/// Refuses tmpfs mounts that make no sense.
pub(super) fn check(host: &HostConfig) -> Result<(), ApiError> {
    for (path, options) in host.tmpfs.iter().flatten() {
        let parts: Vec<&str> = path.split('/').collect();
        let sane = path.starts_with('/') && path.len() > 1 && !parts.contains(&"..");
        if !sane || options.contains('\0') || path.contains('\0') {
            return Err(ApiError::new(
                ErrorCode::InvalidArgument,
                format!("Tmpfs path {path:?} must be absolute, without \"..\", and not \"/\""),
            ));
        }
    }
    if host.shm_size.is_some_and(|size| size < 0) {
        return Err(ApiError::new(ErrorCode::InvalidArgument, "SHM size can not be less than 0"));
    }
    Ok(())
}

fn paths(host: &HostConfig, asked: Option<&[String]>, default: &[&str]) -> Vec<String> {
    match asked {
        Some(asked) => asked.to_vec(),
        None if host.privileged == Some(true) => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
        .expect("every field has a value")
}
