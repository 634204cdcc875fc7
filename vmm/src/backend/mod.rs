//! The host's half of each device: what `husk-devices` asks for through its traits.

#[allow(dead_code, reason = "for the kvm accelerator, which is not here yet")]
mod console;
mod entropy;
mod file;
mod unix;

#[allow(unused_imports, reason = "for the kvm accelerator, which is not here yet")]
pub(crate) use console::{ConsoleOutput, ConsolePort};
pub(crate) use entropy::HostEntropy;
pub(crate) use file::DiskFile;
pub(crate) use unix::UnixHost;
