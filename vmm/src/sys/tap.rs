//! What a tap is told by ioctl (the kernel's `networking/tuntap`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::succeeded;

/// The work that frames read from a tap may leave undone: `TUN_F_CSUM` and others.
pub(crate) use libc::{TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6};

/// The flags with which the descriptor was attached to its interface.
pub(crate) fn tap_flags(tap: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: TUNGETIFF writes one ifreq, which `request` is.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    succeeded(result.into())?;
    // SAFETY: TUNGETIFF has written this member of the union, and any bits are a number.
    Ok(libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// Sets the length of the header before every frame.
pub(crate) fn set_tap_header_length(tap: BorrowedFd<'_>, length: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int, which `length` is.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) };
    succeeded(result.into())
}

/// Sets what frames read from now on may leave undone.
pub(crate) fn set_tap_offload(tap: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    let result =
        unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
    succeeded(result.into())
}
