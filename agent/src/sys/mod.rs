//! System calls that rustix does not wrap, each behind a safe function.

pub mod descriptor;
pub mod device_filter;
pub mod link;
pub mod mount_attr;
pub mod process;
pub mod signal;
pub mod vsock;

use std::io;

/// Turns the result of a libc call into an [`io::Result`].
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Turns the result of a raw system call into an [`io::Result`].
fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The size of a structure as the kernel takes it.
fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("kernel structures are small")
}
