//! The test guest's system calls that no safe wrapper covers. Each function is safe to call.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// From the kernel's `linux/fs.h`; libc has neither.
const BLKDISCARD: libc::Ioctl = 0x1277;
const BLKZEROOUT: libc::Ioctl = 0x127f;

/// Tells a disk that the content of a range is no longer needed.
pub(crate) fn discard(disk: &File, offset: u64, length: u64) -> io::Result<()> {
    range(disk, BLKDISCARD, offset, length)
}

/// Makes a range of a disk zeroes.
pub(crate) fn zero(disk: &File, offset: u64, length: u64) -> io::Result<()> {
    range(disk, BLKZEROOUT, offset, length)
}

fn range(disk: &File, request: libc::Ioctl, offset: u64, length: u64) -> io::Result<()> {
    let range = [offset, length];
    // SAFETY: BLKDISCARD and BLKZEROOUT, the only requests here, read two 64-bit numbers, which
    // `range` holds.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), request, range.as_ptr()) })
}

/// A vsock socket bound to a port of this guest.
pub(crate) fn bind(port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    address(port, libc::VMADDR_CID_ANY, |address, length| {
        // SAFETY: the address is a complete sockaddr_vm of that length.
        checked(unsafe { libc::bind(socket.as_raw_fd(), address, length) })
    })?;
    Ok(socket)
}

/// A vsock connection.
pub(crate) fn connect(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    address(port, cid, |address, length| {
        // SAFETY: the address is a complete sockaddr_vm of that length.
        checked(unsafe { libc::connect(socket.as_raw_fd(), address, length) })
    })?;
    Ok(socket)
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no preconditions.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    checked(fd)?;
    // SAFETY: it is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address<T>(port: u32, cid: u32, call: impl FnOnce(*const libc::sockaddr, u32) -> T) -> T {
    // SAFETY: all-zero bytes are a valid sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).expect("40 fits");
    address.svm_port = port;
    address.svm_cid = cid;
    let length = u32::try_from(size_of_val(&address)).expect("16 fits");
    call((&raw const address).cast(), length)
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
