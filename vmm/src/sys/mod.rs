//! System calls that no safe wrapper covers. Each function here is safe to call.

mod alarm;
mod child;
mod random;
mod rights;
mod signal;
mod tsc;
mod volatile_io;

pub(crate) use alarm::Alarm;
pub(crate) use child::{Inherited, spawn};
pub(crate) use random::random_bytes;
pub(crate) use rights::{receive_fds, standard_input};
pub(crate) use signal::TerminationSignals;
pub(crate) use tsc::TscReading;
pub(crate) use volatile_io::{read_at, read_stream, write_at, write_stream};

use std::io;

/// Gives the malloc of every thread the same arena: an arena of its own would cost each of them
/// some hundred KiB, for allocations that are rare and small.
pub(crate) fn use_one_heap() {
    // SAFETY: mallopt has no preconditions; it only sets a parameter of the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// The result of a call that says -1 for failure.
fn checked(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
