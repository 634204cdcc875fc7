//! What a microVM is asked to be, and the messages that control it while it runs.
//!
//! The engine writes these, `husk-vmm` reads them. This crate does no I/O: file descriptors
//! appear as indices into the array that travels beside the document (see [`FdIndex`]), and
//! [`handover`] says in which bytes both travel.

#![forbid(unsafe_code)]

mod control;
mod device;
pub mod handover;
mod jail;
mod validate;
mod vm;

pub use control::{
    Command, Event, KvmStatus, MemoryUse, Probe, Statistics, Step, StopReason, step,
};
pub use device::{Balloon, Disk, MacAddress, Net, Pmem, RateLimit, Segment, TokenBucket, Vsock};
pub use jail::{JAIL_GID, JAIL_UID};
pub use validate::{
    CMDLINE_LENGTH_MAX, DEVICES_MAX, DISKS_MAX, ID_LENGTH_MAX, MEMORY_MIB_MAX, MEMORY_MIB_MIN,
    MTU_MIN, NETS_MAX, PARAMETERS_MAX, PMEM_ALIGNMENT, PMEM_LENGTH_MAX, PMEMS_MAX, SECTOR_LENGTH,
    SEGMENTS_MAX, SERIAL_LENGTH_MAX, SOFTWARE_DEVICES_MAX, TOKENS_MAX, VCPUS_MAX,
};
pub use vm::{Accelerator, ConfigError, FdIndex, VmConfig};
