//! The host's half of each device: what `husk-devices` asks for through its traits.

mod console;
mod entropy;
mod file;
mod unix;

pub(crate) use console::{ConsoleOutput, ConsolePort};
pub(crate) use entropy::HostEntropy;
pub(crate) use file::DiskFile;
pub(crate) use unix::UnixHost;
