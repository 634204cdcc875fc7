//! The limits of each device, and of all together.

use std::collections::HashSet;

use super::{
    DEVICES_MAX, DISKS_MAX, MTU_MIN, NETS_MAX, PMEM_ALIGNMENT, PMEM_LENGTH_MAX, PMEMS_MAX,
    SECTOR_LENGTH, SEGMENTS_MAX, SERIAL_LENGTH_MAX, SOFTWARE_DEVICES_MAX, TOKENS_MAX, in_range,
};
use crate::{Accelerator, ConfigError, Disk, Net, Pmem, RateLimit, VmConfig};

/// The console, the socket device and the entropy source.
const ALWAYS: usize = 3;

/// The largest disk in bytes: sector numbers stay exact in a signed file offset.
const DISK_LENGTH_MAX: u64 = i64::MAX as u64;

/// Of the first byte of an Ethernet address: it names a group, not a station.
const GROUP_BIT: u8 = 1;

pub(super) fn check(config: &VmConfig) -> Result<(), ConfigError> {
    check_disks(&config.disks)?;
    check_nets(&config.nets)?;
    check_pmems(&config.pmems)?;
    if config.balloon.is_some_and(|balloon| balloon == crate::Balloon::default()) {
        return Err(ConfigError::EmptyBalloon);
    }
    let devices_max = match config.accelerator {
        Accelerator::Software if !config.pmems.is_empty() => return Err(ConfigError::SoftwarePmem),
        Accelerator::Software => SOFTWARE_DEVICES_MAX,
        Accelerator::Kvm => DEVICES_MAX,
    };
    let count = ALWAYS
        + config.disks.len()
        + config.nets.len()
        + config.pmems.len()
        + usize::from(config.balloon.is_some());
    in_range("devices", count as u64, 0, devices_max as u64)
}

fn check_disks(disks: &[Disk]) -> Result<(), ConfigError> {
    in_range("disks", disks.len() as u64, 0, DISKS_MAX as u64)?;
    let segments: usize = disks.iter().map(|disk| disk.segments.len()).sum();
    in_range("segments", segments as u64, 0, SEGMENTS_MAX as u64)?;
    let mut serials = HashSet::new();
    for disk in disks {
        let refuse = |reason| {
            Err(ConfigError::Disk { serial: disk.serial.chars().take(32).collect(), reason })
        };
        if !(1..=SERIAL_LENGTH_MAX).contains(&disk.serial.len()) {
            return refuse("has a serial that is not 1 to 20 bytes long");
        }
        if !disk.serial.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse("has a serial with blanks, control or non-ASCII characters");
        }
        if !serials.insert(&disk.serial) {
            return refuse("has the serial of another disk");
        }
        if disk.segments.is_empty() {
            return refuse("has no segment");
        }
        if !disk.read_only && disk.segments.len() != 1 {
            return refuse("is writable and has more than one segment");
        }
        let mut length = 0_u64;
        for segment in &disk.segments {
            if segment.length == 0 || !segment.length.is_multiple_of(SECTOR_LENGTH) {
                return refuse("has a segment whose length is not a positive multiple of 512");
            }
            length = length.saturating_add(segment.length);
        }
        if length > DISK_LENGTH_MAX {
            return refuse("is longer than a file can be");
        }
        if let Some(limit) = disk.rate_limit {
            check_rate_limit(limit).or_else(refuse)?;
        }
    }
    Ok(())
}

fn check_nets(nets: &[Net]) -> Result<(), ConfigError> {
    in_range("nets", nets.len() as u64, 0, NETS_MAX as u64)?;
    let mut addresses = HashSet::new();
    for net in nets {
        let refuse = |reason| Err(ConfigError::Net { mac: net.mac, reason });
        if net.mac.0[0] & GROUP_BIT != 0 {
            return refuse("has the address of a group");
        }
        if net.mac.0 == [0; 6] {
            return refuse("has no address");
        }
        if !addresses.insert(net.mac) {
            return refuse("has the address of another net");
        }
        if net.mtu < MTU_MIN {
            return refuse("has an MTU below 68 bytes");
        }
        for limit in [net.rx_rate_limit, net.tx_rate_limit].into_iter().flatten() {
            check_rate_limit(limit).or_else(refuse)?;
        }
    }
    Ok(())
}

fn check_pmems(pmems: &[Pmem]) -> Result<(), ConfigError> {
    in_range("pmems", pmems.len() as u64, 0, PMEMS_MAX as u64)?;
    for (place, pmem) in pmems.iter().enumerate() {
        let refuse = |reason| Err(ConfigError::Pmem { place, reason });
        if pmem.length == 0 || !pmem.length.is_multiple_of(PMEM_ALIGNMENT) {
            return refuse("has a length that is not a positive multiple of 2 MiB");
        }
        if pmem.length > PMEM_LENGTH_MAX {
            return refuse("is longer than 1 TiB");
        }
    }
    Ok(())
}

/// An error is the end of a sentence about the device.
fn check_rate_limit(limit: RateLimit) -> Result<(), &'static str> {
    let buckets = [limit.bytes, limit.operations];
    if buckets == [None, None] {
        return Err("has a rate limit without a bucket");
    }
    for bucket in buckets.into_iter().flatten() {
        if bucket.size == 0 || bucket.refill_per_second == 0 {
            return Err("has a rate limit that lets nothing through");
        }
        if bucket.size.max(bucket.one_time_burst).max(bucket.refill_per_second) > TOKENS_MAX {
            return Err("has a rate limit beyond 2^40");
        }
    }
    Ok(())
}
