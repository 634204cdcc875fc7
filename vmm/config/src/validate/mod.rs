//! The limits of a [`VmConfig`], and the check that it keeps them.

mod device;
mod fds;

use std::path::Path;

use crate::{Accelerator, ConfigError, VmConfig};

/// The most virtual CPUs.
pub const VCPUS_MAX: u8 = 32;

/// The least guest memory in MiB with which a kernel reaches user space.
pub const MEMORY_MIB_MIN: u32 = 32;

/// The most guest memory in MiB, 1 TiB.
pub const MEMORY_MIB_MAX: u32 = 1 << 20;

/// The most devices of one microVM, counted with the console, vsock and entropy devices that each
/// has: every one takes an interrupt line and an MMIO window.
pub const DEVICES_MAX: usize = 16;

/// As [`DEVICES_MAX`], under [`Accelerator::Software`]: the emulator's machine has so many places.
pub const SOFTWARE_DEVICES_MAX: usize = 8;

/// The most disks of one microVM.
pub const DISKS_MAX: usize = 8;

/// The most network devices of one microVM.
pub const NETS_MAX: usize = 8;

/// The most persistent-memory devices of one microVM.
pub const PMEMS_MAX: usize = 4;

/// The least MTU: what every IPv4 host takes (RFC 791).
pub const MTU_MIN: u16 = 68;

/// A guest maps persistent memory in pieces of this length, 2 MiB.
pub const PMEM_ALIGNMENT: u64 = 2 << 20;

/// The longest persistent-memory device in bytes, 1 TiB.
pub const PMEM_LENGTH_MAX: u64 = 1 << 40;

/// The most tokens of a bucket, of its burst, and of a second's refill: 1 TiB.
pub const TOKENS_MAX: u64 = 1 << 40;

/// The most segments of all disks together: each holds one descriptor of the VMM open.
pub const SEGMENTS_MAX: usize = 1100;

/// Bytes of a virtio-blk sector.
pub const SECTOR_LENGTH: u64 = 512;

/// The longest serial in bytes (virtio-blk `VIRTIO_BLK_ID_BYTES`).
pub const SERIAL_LENGTH_MAX: usize = 20;

/// The most bytes of all kernel parameters together, blanks included: the kernel takes 2047, and
/// the VMM's own, with one for each device, come first.
pub const CMDLINE_LENGTH_MAX: usize = 1024;

/// The most kernel parameters.
pub const PARAMETERS_MAX: usize = 64;

/// The longest identifier in bytes.
pub const ID_LENGTH_MAX: usize = 64;

/// The longest path in bytes of the directory that holds `guest-<port>.sock`: a unix socket's
/// address has 108 bytes, of which the name takes up to 23 and the terminator one.
const DIRECTORY_LENGTH_MAX: usize = 84;

impl VmConfig {
    /// Checks every field, so that whoever holds the result need not ask again.
    ///
    /// `fd_count` is the number of descriptors that came with the document. No descriptor may
    /// serve two purposes, except that several may read one file.
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
        device::check(self)?;
        check_accelerator(self)?;
        fds::check(self, fd_count)
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

fn check_accelerator(config: &VmConfig) -> Result<(), ConfigError> {
    match (config.accelerator, &config.emulator, config.kvm) {
        (Accelerator::Software, None, _) => Err(ConfigError::NoEmulator),
        (Accelerator::Software, _, Some(fd)) => Err(ConfigError::UnusedKvm { index: fd.0 }),
        (Accelerator::Kvm, _, None) => Err(ConfigError::NoKvm),
        _ => Ok(()),
    }
}

fn check_directory(directory: &Path) -> Result<(), ConfigError> {
    let length = directory.as_os_str().len();
    if directory.is_absolute() && length <= DIRECTORY_LENGTH_MAX {
        return Ok(());
    }
    Err(ConfigError::Directory { directory: directory.to_owned() })
}

#[cfg(test)]
mod tests;
