//! The test guest's system calls that no safe wrapper covers. Each function is safe to call.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
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

/// Gives an interface an IPv4 address and a mask, and brings it up.
pub(crate) fn bring_up(name: &str, address: Ipv4Addr, mask: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *place = libc::c_char::try_from(byte).expect("names are ASCII");
    }
    let call = |request: &libc::ifreq, number: libc::Ioctl| {
        // SAFETY: the three requests below read one ifreq, which `request` is.
        checked(unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw const *request) })
    };
    for (number, value) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, mask)] {
        let family = libc::sa_family_t::try_from(libc::AF_INET).expect("2 fits");
        request.ifr_ifru.ifru_addr.sa_family = family;
        // SAFETY: this member was just written, and its padding holds an IPv4 address.
        let data = unsafe { &mut request.ifr_ifru.ifru_addr.sa_data };
        for (place, byte) in data[2..6].iter_mut().zip(value.octets()) {
            *place = libc::c_char::from_ne_bytes([byte]);
        }
        call(&request, number)?;
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).expect("65 fits");
    call(&request, libc::SIOCSIFFLAGS)
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
