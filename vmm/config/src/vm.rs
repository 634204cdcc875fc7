//! The configuration document of one microVM, and its validation.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Balloon, Disk, MacAddress, Net, Pmem, Vsock};

/// The position of a file descriptor in the array that is sent beside the document.
///
/// The document travels as JSON over a unix socket that is `husk-vmm`'s standard input; the
/// descriptors follow it as `SCM_RIGHTS` messages, in order: see [`crate::handover`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct FdIndex(pub u32);

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualisation through `/dev/kvm`.
    Kvm,
    /// QEMU's `microvm` machine under TCG, with our own devices over vhost-user.
    Software,
}

impl Accelerator {
    /// Its name, as users write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Software => "software",
        }
    }
}

/// One microVM, complete: nothing else crosses to `husk-vmm`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// The sandbox's name, for logs and process titles.
    pub id: String,
    /// What runs it; `auto` was resolved by the engine.
    pub accelerator: Accelerator,
    /// Number of virtual CPUs, 1 to [`crate::VCPUS_MAX`].
    pub vcpus: u8,
    /// Guest memory in MiB, [`crate::MEMORY_MIB_MIN`] to [`crate::MEMORY_MIB_MAX`].
    pub memory_mib: u32,
    /// An uncompressed ELF kernel with a PVH note.
    pub kernel: FdIndex,
    /// Kernel parameters added to those the VMM needs itself; the last of a name wins.
    pub cmdline: Vec<String>,
    /// Block devices in the order in which the guest finds them; the first holds its `/`.
    pub disks: Vec<Disk>,
    /// The socket device that links host and guest.
    pub vsock: Vsock,
    /// A listening unix stream socket for [`crate::Command`] and [`crate::Event`].
    pub control: FdIndex,
    /// A file, empty and open for writing, that receives the last event as JSON.
    pub report: FdIndex,
    /// The emulator's program; needed by [`Accelerator::Software`] only.
    pub emulator: Option<PathBuf>,
    /// `/dev/kvm`, open for reading and writing; needed by [`Accelerator::Kvm`], refused elsewhere.
    #[serde(default)]
    pub kvm: Option<FdIndex>,
    /// Network devices in the order in which the guest finds them.
    #[serde(default)]
    pub nets: Vec<Net>,
    /// Persistent-memory devices in the order in which the guest finds them; [`Accelerator::Kvm`]
    /// only.
    #[serde(default)]
    pub pmems: Vec<Pmem>,
    /// The balloon, if there is one.
    #[serde(default)]
    pub balloon: Option<Balloon>,
}

/// Why a [`VmConfig`] was refused.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A number lies outside its range.
    #[error("{field} is {value}, outside {min} to {max}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// A descriptor index points behind the array that came along.
    #[error("{field} names descriptor {index}, but only {count} came along")]
    NoSuchFd {
        /// The field's name.
        field: &'static str,
        /// The index asked for.
        index: u32,
        /// Descriptors received.
        count: usize,
    },
    /// A disk is not well formed.
    #[error("disk {serial:?} {reason}")]
    Disk {
        /// The disk's serial.
        serial: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A network device is not well formed.
    #[error("net {mac} {reason}")]
    Net {
        /// The device's address.
        mac: MacAddress,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A persistent-memory device is not well formed.
    #[error("pmem {place} {reason}")]
    Pmem {
        /// Its place among them, from 0.
        place: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A balloon that would do nothing.
    #[error("balloon asks for none of its features")]
    EmptyBalloon,
    /// A descriptor was given two purposes.
    #[error("{field} names descriptor {index}, which serves another purpose already")]
    SharedFd {
        /// The field's name.
        field: &'static str,
        /// The index asked for.
        index: u32,
    },
    /// The sandbox's name is not one.
    #[error("id {id:?} is not 1 to 64 letters, digits, '-', '_' or '.'")]
    Id {
        /// Its first characters.
        id: String,
    },
    /// The directory of the guest's sockets cannot hold them.
    #[error("vsock.directory {directory:?} is not an absolute path of at most 84 bytes")]
    Directory {
        /// The path.
        directory: PathBuf,
    },
    /// A kernel parameter would not arrive as the one it is.
    #[error(
        "kernel parameter {parameter:?} is empty, too long, or holds a blank, quote or control character"
    )]
    Cmdline {
        /// The parameter.
        parameter: String,
    },
    /// The software accelerator needs a program to run.
    #[error("the software accelerator needs the emulator's path")]
    NoEmulator,
    /// The kvm accelerator needs its device.
    #[error("the kvm accelerator needs the descriptor of /dev/kvm")]
    NoKvm,
    /// The device of another accelerator.
    #[error("kvm names descriptor {index}, but the software accelerator has no use for it")]
    UnusedKvm {
        /// The index given.
        index: u32,
    },
    /// The emulator's memory layout leaves no place for them.
    #[error("the software accelerator has no pmem devices: give it disks, or use kvm")]
    SoftwarePmem,
}
