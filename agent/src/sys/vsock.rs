//! `AF_VSOCK` addresses, which rustix does not know.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, listen as listen_on, socket_with};

use super::{check, size_of_u32};

/// The context ID of the host.
pub const HOST: u32 = libc::VMADDR_CID_HOST;

/// Socket options of `linux/vm_sockets.h`.
const SO_VM_SOCKETS_BUFFER_SIZE: libc::c_int = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: libc::c_int = 2;

/// Listens on `port`, for peers of every context ID.
///
/// # Errors
/// The kernel's.
pub fn listen(port: u32, backlog: i32) -> io::Result<OwnedFd> {
    let socket = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let address = address(libc::VMADDR_CID_ANY, port);
    // SAFETY: the socket is open; the address is a sockaddr_vm and the length its size.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_u32::<libc::sockaddr_vm>(),
        )
    })?;
    listen_on(&socket, backlog)?;
    Ok(socket)
}

/// Connects to a port of a context ID; waits for the answer (the kernel's limit is 2 s).
///
/// # Errors
/// The kernel's.
pub fn connect(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = stream_socket(SocketFlags::CLOEXEC)?;
    let address = address(cid, port);
    // SAFETY: the socket is open; the address is a sockaddr_vm and the length its size.
    check(unsafe {
        libc::connect(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_u32::<libc::sockaddr_vm>(),
        )
    })?;
    Ok(socket)
}

/// Whether the other end of a connection is the host.
pub fn peer_is_host(connection: BorrowedFd<'_>) -> bool {
    // SAFETY: sockaddr_vm is plain data, for which all zeros is a valid value.
    let mut peer: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    let mut length = size_of_u32::<libc::sockaddr_vm>();
    // SAFETY: the socket is open; the kernel writes at most `length` bytes, the size of `peer`.
    let result = unsafe {
        libc::getpeername(connection.as_raw_fd(), (&raw mut peer).cast(), &raw mut length)
    };
    result == 0 && i32::from(peer.svm_family) == libc::AF_VSOCK && peer.svm_cid == HOST
}

/// Sets how many bytes the peer may have in flight towards this connection.
///
/// # Errors
/// The kernel's; sockets of other families know no such option.
pub fn set_buffer_size(connection: impl AsFd, bytes: u64) -> io::Result<()> {
    // The maximum first: the size is cut to it.
    for option in [SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE] {
        // SAFETY: the socket is open; the value is a u64 and the length its size.
        check(unsafe {
            libc::setsockopt(
                connection.as_fd().as_raw_fd(),
                libc::AF_VSOCK,
                option,
                (&raw const bytes).cast(),
                size_of_u32::<u64>(),
            )
        })?;
    }
    Ok(())
}

fn stream_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?)
}

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: sockaddr_vm is plain data, for which all zeros is a valid value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).expect("a small number");
    address.svm_cid = cid;
    address.svm_port = port;
    address
}
