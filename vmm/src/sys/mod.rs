//! System calls that no safe wrapper covers. Each function here is safe to call.

mod alarm;
mod child;
mod discard;
mod namespace;
mod random;
mod rights;
mod seccomp;
mod signal;
mod tap;
mod tsc;
mod volatile_io;

pub(crate) use alarm::Alarm;
pub(crate) use child::{Inherited, spawn};
pub(crate) use discard::discard_memory;
pub(crate) use namespace::{
    clone_process, close_inherited, exit_now, replace_standard, set_mount_attributes,
    unshare_mounts,
};
pub(crate) use random::random_bytes;
pub(crate) use rights::{receive_fds, standard_input};
pub(crate) use seccomp::filter_calls;
#[cfg(test)]
pub(crate) use seccomp::{map_code, run_program, trace_me};
pub(crate) use signal::{
    TerminationSignals, block_for_child, default_handlers, unblock_all, wait_for_child,
};
pub(crate) use tap::{
    TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, set_tap_header_length, set_tap_offload, tap_flags,
};
pub(crate) use tsc::TscReading;
pub(crate) use volatile_io::{read_at, read_stream, write_at, write_stream};

use std::io;

/// Gives the malloc of every thread the same arena: an arena of its own would cost each of them
/// some hundred KiB, for allocations that are rare and small.
pub(crate) fn use_one_heap() {
    // SAFETY: mallopt has no preconditions; it only sets a parameter of the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// The exit status that stands for an abort. The first process of a process namespace cannot end by
/// a signal that it sends to itself: the kernel keeps it from all whose action is the default one.
pub(crate) const ABORTED: i32 = 128 + libc::SIGABRT;

/// Ends the process at once. Safe in a signal handler.
pub(crate) fn abort() -> ! {
    // SAFETY: getpid has no preconditions.
    if unsafe { libc::getpid() } != 1 {
        std::process::abort();
    }
    exit_now(ABORTED)
}

/// Whether a raw system call says that it succeeded.
fn succeeded(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The result of a call that says -1 for failure.
fn checked(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
