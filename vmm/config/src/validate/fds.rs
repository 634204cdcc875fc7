//! That every descriptor is there, and none serves two purposes.

use std::collections::HashSet;

use crate::{ConfigError, FdIndex, VmConfig};

/// A file that someone may write is nobody else's, or the read-only flag would mean nothing; those
/// that are only read may be read by several.
pub(super) fn check(config: &VmConfig, fd_count: usize) -> Result<(), ConfigError> {
    let known = |field, FdIndex(index): FdIndex| match usize::try_from(index) {
        Ok(place) if place < fd_count => Ok(()),
        _ => Err(ConfigError::NoSuchFd { field, index, count: fd_count }),
    };
    let mut exclusive = HashSet::new();
    for (field, fd) in exclusive_fds(config) {
        known(field, fd)?;
        if !exclusive.insert(fd) {
            return Err(ConfigError::SharedFd { field, index: fd.0 });
        }
    }
    for (field, fd) in read_fds(config) {
        known(field, fd)?;
        if exclusive.contains(&fd) {
            return Err(ConfigError::SharedFd { field, index: fd.0 });
        }
    }
    Ok(())
}

const SEGMENT: &str = "disks.segments.fd";

fn exclusive_fds(config: &VmConfig) -> Vec<(&'static str, FdIndex)> {
    let mut fds = vec![
        ("kernel", config.kernel),
        ("vsock.listener", config.vsock.listener),
        ("control", config.control),
        ("report", config.report),
    ];
    fds.extend(config.kvm.map(|fd| ("kvm", fd)));
    fds.extend(config.nets.iter().map(|net| ("nets.tap", net.tap)));
    let writable = config.disks.iter().filter(|disk| !disk.read_only);
    fds.extend(writable.flat_map(|disk| &disk.segments).map(|segment| (SEGMENT, segment.fd)));
    fds
}

fn read_fds(config: &VmConfig) -> Vec<(&'static str, FdIndex)> {
    let read_only = config.disks.iter().filter(|disk| disk.read_only);
    let segments = read_only.flat_map(|disk| &disk.segments);
    let mut fds: Vec<_> = segments.map(|segment| (SEGMENT, segment.fd)).collect();
    fds.extend(config.pmems.iter().map(|pmem| ("pmems.fd", pmem.fd)));
    fds
}
