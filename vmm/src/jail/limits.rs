//! Resource limits.

use std::io;

use husk_vmm_config::VmConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beside disks and guest memory: the report, standard error, alignment of memory.
const MARGIN: u64 = 64 << 20;

/// The longest file that a microVM has a reason to write, in bytes: a disk, or its own memory.
pub(super) fn longest_file(config: &VmConfig) -> u64 {
    let writable = config.disks.iter().filter(|disk| !disk.read_only);
    let disks = writable.flat_map(|disk| &disk.segments).map(|segment| segment.length);
    let memory = u64::from(config.memory_mib) << 20;
    disks.chain([memory]).max().unwrap_or(memory).saturating_add(MARGIN)
}

/// Sets what has not been set when the process began: no file longer than this, no locked memory, and
/// no more descriptors than are allowed now.
///
/// Processes and threads are the cgroup's to limit: their number would be counted over all microVMs,
/// which are the same user.
pub(super) fn set(file_length_max: u64) -> io::Result<()> {
    let files = getrlimit(Resource::Nofile).current;
    let none = Some(0);
    for (resource, limit) in [
        (Resource::Fsize, Some(file_length_max)),
        (Resource::Memlock, none),
        (Resource::Nofile, files),
    ] {
        let lower = |old: Option<u64>| match (old, limit) {
            (Some(old), Some(limit)) => Some(old.min(limit)),
            (old, limit) => old.or(limit),
        };
        let maximum = lower(getrlimit(resource).maximum);
        setrlimit(resource, Rlimit { current: maximum, maximum })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use husk_vmm_config::{Disk, FdIndex, Segment};

    use super::super::tests::configuration;
    use super::*;

    #[test]
    fn the_longest_file_is_a_disk_or_the_memory() {
        let disk = |length, read_only| Disk {
            rate_limit: None,
            serial: "data".into(),
            segments: vec![Segment { fd: FdIndex(0), length }],
            read_only,
        };
        let mut config = configuration(Path::new("/run"));
        config.disks = vec![disk(1 << 40, true), disk(4096, false)];
        assert_eq!(longest_file(&config), (128 << 20) + MARGIN);
        config.disks.push(disk(10 << 30, false));
        assert_eq!(longest_file(&config), (10 << 30) + MARGIN);
    }
}
