//! Which file descriptors survive an exec.

use std::io;

use super::check;

/// Marks every descriptor from `first` on to be closed by an exec.
///
/// # Errors
/// The kernel's, for one older than 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).expect("a small flag");
    // SAFETY: close_range with CLOEXEC takes numbers only and closes nothing now.
    check(unsafe { libc::close_range(first, libc::c_uint::MAX, flags) }).map(drop)
}
