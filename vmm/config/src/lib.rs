//! What a microVM is asked to be, and the messages that control it while it runs.
//!
//! The engine writes these, `husk-vmm` reads them. This crate does no I/O: file descriptors
//! appear as indices into the array that travels beside the document (see [`FdIndex`]).

mod control;
mod vm;

pub use control::{Command, Event, KvmStatus, Probe, StopReason};
pub use vm::{Accelerator, ConfigError, Disk, FdIndex, Segment, VmConfig, Vsock};
