//! The limits of a [`VmConfig`], and the check that it keeps them.

use std::collections::HashSet;
use std::path::Path;

use crate::{Accelerator, ConfigError, Disk, FdIndex, VmConfig};

/// The most virtual CPUs.
pub const VCPUS_MAX: u8 = 32;

/// The least guest memory in MiB with which a kernel reaches user space.
pub const MEMORY_MIB_MIN: u32 = 32;

/// The most guest memory in MiB, 1 TiB.
pub const MEMORY_MIB_MAX: u32 = 1 << 20;

/// The most disks of one microVM: each costs an interrupt line and an MMIO window.
pub const DISKS_MAX: usize = 8;

/// The most segments of all disks together: each holds one descriptor of the VMM open.
pub const SEGMENTS_MAX: usize = 1100;

/// Bytes of a virtio-blk sector.
pub const SECTOR_LENGTH: u64 = 512;

/// The longest serial in bytes (virtio-blk `VIRTIO_BLK_ID_BYTES`).
pub const SERIAL_LENGTH_MAX: usize = 20;

/// The most bytes of all kernel parameters together, blanks included: the kernel takes 2047, and
/// the VMM's own come first.
pub const CMDLINE_LENGTH_MAX: usize = 1536;

/// The most kernel parameters.
pub const PARAMETERS_MAX: usize = 64;

/// The longest identifier in bytes.
pub const ID_LENGTH_MAX: usize = 64;

/// The largest disk in bytes: sector numbers stay exact in a signed file offset.
const DISK_LENGTH_MAX: u64 = i64::MAX as u64;

/// The longest path in bytes of the directory that holds `guest-<port>.sock`: a unix socket's
/// address has 108 bytes, of which the name takes up to 23 and the terminator one.
const DIRECTORY_LENGTH_MAX: usize = 84;

impl VmConfig {
    /// Checks every field, so that whoever holds the result need not ask again.
    ///
    /// `fd_count` is the number of descriptors that came with the document. No descriptor may
    /// serve two purposes, except that segments may share one file.
    pub fn validate(&self, fd_count: usize) -> Result<(), ConfigError> {
        in_range("vcpus", self.vcpus.into(), 1, VCPUS_MAX.into())?;
        in_range(
            "memory_mib",
            self.memory_mib.into(),
            MEMORY_MIB_MIN.into(),
            MEMORY_MIB_MAX.into(),
        )?;
        in_range("vsock.guest_cid", self.vsock.guest_cid.into(), 3, u64::from(u32::MAX) - 1)?;
        check_id(&self.id)?;
        check_cmdline(&self.cmdline)?;
        check_directory(&self.vsock.directory)?;
        check_disks(&self.disks)?;
        check_fds(self, fd_count)?;
        match (self.accelerator, &self.emulator) {
            (Accelerator::Software, None) => Err(ConfigError::NoEmulator),
            _ => Ok(()),
        }
    }
}

fn in_range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { field, value, min, max })
}

/// An identifier appears in logs and process titles, never in a path.
fn check_id(id: &str) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=ID_LENGTH_MAX).contains(&id.len()) && id.chars().all(plain) {
        return Ok(());
    }
    Err(ConfigError::Id { id: id.chars().take(ID_LENGTH_MAX).collect() })
}

/// The kernel splits at blanks outside double quotes; a parameter that holds either, or anything
/// unprintable, would not arrive as the one parameter it was.
fn check_cmdline(parameters: &[String]) -> Result<(), ConfigError> {
    in_range("cmdline parameters", parameters.len() as u64, 0, PARAMETERS_MAX as u64)?;
    for parameter in parameters {
        let sane = !parameter.is_empty()
            && parameter.len() <= CMDLINE_LENGTH_MAX
            && parameter.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        // "--" hands everything after it to init: the VMM's own parameters would be lost.
        if !sane || parameter == "--" {
            return Err(ConfigError::Cmdline {
                parameter: parameter.chars().take(ID_LENGTH_MAX).collect(),
            });
        }
    }
    let length: usize = parameters.iter().map(|parameter| parameter.len() + 1).sum();
    in_range("cmdline bytes", length as u64, 0, CMDLINE_LENGTH_MAX as u64)
}

fn check_directory(directory: &Path) -> Result<(), ConfigError> {
    let length = directory.as_os_str().len();
    if directory.is_absolute() && length <= DIRECTORY_LENGTH_MAX {
        return Ok(());
    }
    Err(ConfigError::Directory { directory: directory.to_owned() })
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
    }
    Ok(())
}

fn check_fds(config: &VmConfig, fd_count: usize) -> Result<(), ConfigError> {
    let known = |field, FdIndex(index): FdIndex| match usize::try_from(index) {
        Ok(place) if place < fd_count => Ok(()),
        _ => Err(ConfigError::NoSuchFd { field, index, count: fd_count }),
    };
    let single = [
        ("kernel", config.kernel),
        ("vsock.listener", config.vsock.listener),
        ("control", config.control),
        ("report", config.report),
    ];
    let mut taken = HashSet::new();
    for (field, fd) in single {
        known(field, fd)?;
        if !taken.insert(fd) {
            return Err(ConfigError::SharedFd { field, index: fd.0 });
        }
    }
    // A file that someone may write is nobody else's, or the read-only flag would mean nothing.
    let mut read = HashSet::new();
    for disk in &config.disks {
        for segment in &disk.segments {
            known("disks.segments.fd", segment.fd)?;
            let shared = if disk.read_only {
                read.insert(segment.fd);
                taken.contains(&segment.fd)
            } else {
                read.contains(&segment.fd) || !taken.insert(segment.fd)
            };
            if shared {
                return Err(ConfigError::SharedFd {
                    field: "disks.segments.fd",
                    index: segment.fd.0,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
