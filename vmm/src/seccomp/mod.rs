//! System call filters, one for each kind of thread.
//!
//! `<arch>.json` holds them as data, each call with its reason and, where it matters, with what its
//! arguments may be. `build.rs` compiles them to BPF; what is installed are those bytes. Argument
//! checks are kept off the calls that matter for speed: the kernel remembers which calls are allowed
//! whatever their arguments, and asks no filter for those.
//!
//! A call that is not listed does not happen. Its thread gets SIGSYS, whose handler writes one line
//! to standard error, which thread and which call, and ends the process with the status of an
//! abort: the engine tells that line as the reason.

#[cfg(test)]
mod tests;

use std::io;

use crate::sys;

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// What a thread does, and so which system calls it has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ThreadKind {
    /// The main thread, from when the guest runs.
    Supervisor,
    /// A thread that serves devices.
    Device,
    /// A thread that runs a vCPU.
    Vcpu,
    /// The process outside the jail that waits for the one inside.
    Parent,
}

/// A filter that the kernel did not take.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to install the system call filter of the {} thread ({reason}): \
     does the host's kernel have CONFIG_SECCOMP_FILTER?",
    .kind.name()
)]
pub(crate) struct SeccompError {
    kind: ThreadKind,
    reason: io::Error,
}

impl ThreadKind {
    /// For messages.
    fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Device => "device",
            Self::Vcpu => "vcpu",
            Self::Parent => "parent",
        }
    }

    fn program(self) -> &'static [libc::sock_filter] {
        match self {
            Self::Supervisor => &SUPERVISOR,
            Self::Device => &DEVICE,
            Self::Vcpu => &VCPU,
            Self::Parent => &PARENT,
        }
    }
}

/// Leaves the calling thread with the calls of its kind, for good: to be called by each thread, when
/// it is set up and before it hears of the guest. Threads that it starts later have its filter.
pub(crate) fn install(kind: ThreadKind) -> Result<(), SeccompError> {
    sys::filter_calls(kind.name(), kind.program()).map_err(|reason| SeccompError { kind, reason })
}
