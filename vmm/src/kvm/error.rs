//! What KVM refuses.

use std::io;

/// Why a microVM cannot be run on this KVM.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvmError {
    /// Another API than the one that has been stable since 2007.
    #[error("/dev/kvm has API version {0}, not 12")]
    Version(i32),
    /// Something that this host's KVM cannot do.
    #[error("this host's KVM lacks {name}, needed for {purpose} (in Linux since {since})")]
    Capability {
        /// Its name in the kernel's documentation.
        name: &'static str,
        /// What it is for.
        purpose: &'static str,
        /// The first version of Linux that has it.
        since: &'static str,
    },
    /// More vCPUs than it can run.
    #[error("this host's KVM runs at most {most} vCPUs in a VM, not {wanted}")]
    Vcpus {
        /// What was asked for.
        wanted: u8,
        /// What there is.
        most: usize,
    },
    /// More memory than the processor has addresses.
    #[error("guest memory ends at {end:#x}, behind this processor's {bits} physical address bits")]
    AddressBits {
        /// The first address behind it.
        end: u64,
        /// The processor's address bits.
        bits: u32,
    },
    /// A register that it does not know.
    #[error("this host's KVM refused to set MSR {index:#x}")]
    Msr {
        /// Its number.
        index: u32,
    },
    /// Any other call.
    #[error("failed to {attempt}")]
    Call {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What is written to guest memory before the start does not fit.
    #[error("failed to write the {what} into guest memory")]
    Boot {
        /// What it was.
        what: &'static str,
    },
    /// The kernel's parameters.
    #[error("the kernel's parameters are {length} bytes, more than its {most}")]
    CommandLine {
        /// Their length.
        length: usize,
        /// The most it takes.
        most: usize,
    },
}

/// Gives a failed call its name.
pub(super) fn call(attempt: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Call { attempt, source: io::Error::from_raw_os_error(error.errno()) }
}
