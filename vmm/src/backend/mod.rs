//! The host's half of each device: what `husk-devices` asks for through its traits.

mod console;
mod entropy;
mod file;
mod memory;
mod tap;
mod timer;
mod unix;

pub(crate) use console::{ConsoleOutput, ConsolePort};
pub(crate) use entropy::HostEntropy;
pub(crate) use file::DiskFile;
pub(crate) use memory::HostMemory;
pub(crate) use tap::Tap;
pub(crate) use timer::AlarmTimer;
pub(crate) use unix::UnixHost;
