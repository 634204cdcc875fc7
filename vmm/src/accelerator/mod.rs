//! What runs the guest's instructions, behind one trait.
//!
//! An accelerator gets a [`Machine`]: resources and finished device models. It owns CPU, memory,
//! interrupts and the transport between driver and device; what a device does is the same under
//! each of them.

mod kvm;
mod software;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use husk_devices::virtio::Device;
use husk_vmm_config::{Balloon, MemoryUse};

pub(crate) use kvm::Kvm;
pub(crate) use software::Software;

use crate::console::Console;
use crate::jail::{Jail, JailError};
use crate::poll::Poll;
use crate::sys::TscReading;
use crate::timeline::Timeline;

/// Devices that one thread serves, and the event loop on which they watch the host.
pub(crate) struct Group {
    /// For the thread's name and errors.
    pub(crate) name: &'static str,
    /// Where they watch, under `device_tokens` of their place below.
    pub(crate) poll: Arc<Poll>,
    /// The devices.
    pub(crate) devices: Vec<Box<dyn Device>>,
}

/// All that a microVM is made of.
pub(crate) struct Machine {
    /// The sandbox's name.
    pub(crate) id: String,
    /// Virtual CPUs.
    pub(crate) vcpus: u8,
    /// Guest memory in MiB.
    pub(crate) memory_mib: u32,
    /// An uncompressed ELF kernel with a PVH note.
    pub(crate) kernel: File,
    /// Its parameters.
    pub(crate) cmdline: String,
    /// The devices, disks first and in the guest's order.
    pub(crate) groups: Vec<Group>,
    /// Persistent memory. The accelerator maps each file read-only, and makes its device, a
    /// `Pmem::new(start, length)`, once it knows the guest address.
    pub(crate) pmems: Vec<PmemSource>,
    /// A balloon that is the emulator's own to provide, not one of `groups`.
    pub(crate) emulated_balloon: Option<Balloon>,
    /// `/dev/kvm`, open for reading and writing; there under the kvm accelerator.
    pub(crate) kvm: Option<File>,
    /// `/proc/self/smaps`, opened while there is a `/proc`.
    pub(crate) smaps: Option<File>,
    /// Read when the process began.
    pub(crate) tsc: TscReading,
    /// The program of the software accelerator.
    pub(crate) emulator: Option<PathBuf>,
    /// For the accelerator's own steps.
    pub(crate) timeline: Arc<Timeline>,
    /// Still open for the software accelerator, which closes it before it starts a thread; `None`
    /// once it is closed.
    pub(crate) jail: Option<Jail>,
}

/// The content of a persistent-memory device.
#[derive(Debug)]
pub(crate) struct PmemSource {
    /// A regular file, open for reading.
    pub(crate) file: File,
    /// Bytes that the guest sees, a multiple of 2 MiB; zeros behind the file's end.
    pub(crate) length: u64,
}

/// How a guest ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// It shut itself down or rebooted.
    Guest,
    /// What ran it failed: one line.
    Failed(String),
}

/// What an event of a running guest amounts to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// Nothing to tell.
    Nothing,
    /// Guest code runs.
    Started,
    /// It runs no more.
    Ended(Ended),
}

/// A way to run guests.
pub(crate) trait Accelerator {
    /// Starts the machine. Its events will arrive on `poll` under tokens below 2^32.
    fn start(&self, machine: Machine, poll: &Poll) -> Result<Box<dyn Guest>, AcceleratorError>;
}

/// A running guest. Dropping it ends it, and returns once nothing of it is left.
pub(crate) trait Guest {
    /// Handles an event; what the guest printed goes to `console`.
    fn handle(&mut self, token: u32, console: &mut Console) -> Progress;

    /// When [`handle_deadline`](Self::handle_deadline) wants to be called.
    fn deadline(&self) -> Option<Instant>;

    /// The deadline has passed.
    fn handle_deadline(&mut self, console: &mut Console) -> Progress;

    /// What was counted so far.
    fn counts(&self) -> Counts;
}

/// What an accelerator counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    /// Exits of all vCPUs to user space, by reason.
    pub(crate) exits: BTreeMap<String, u64>,
    /// Guest memory that the host had to provide.
    pub(crate) memory: MemoryUse,
}

/// Why a guest could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceleratorError {
    /// The descriptor of KVM did not come along.
    #[error("the kvm accelerator needs the descriptor of /dev/kvm")]
    NoKvm,
    /// The host's KVM cannot run it.
    #[error(transparent)]
    Kvm(#[from] crate::kvm::KvmError),
    /// The guest's addresses do not suffice.
    #[error("failed to lay out the guest's memory")]
    Layout(#[from] crate::memory::LayoutError),
    /// The kernel is none, or cannot be loaded.
    #[error(transparent)]
    Kernel(#[from] crate::memory::LoadError),
    /// Its program is not there.
    #[error(
        "no qemu-system-x86_64 found: install qemu-system-x86 (apt install qemu-system-x86), \
         or use a host with KVM"
    )]
    NoEmulator,
    /// The program cannot be run.
    #[error("failed to start the emulator {path}")]
    Spawn {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The jail could not be closed.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// A thread for the devices.
    #[error(transparent)]
    Worker(#[from] crate::device_thread::WorkerError),
    /// Sockets, pipes and the like.
    #[error("failed to {attempt}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}
