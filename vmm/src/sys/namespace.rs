//! Processes and mounts in namespaces of their own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use super::succeeded;

/// Copies the calling process into new namespaces, as fork does; `None` in the copy. The process must
/// have one thread.
///
/// The C library is not told: the copy's idea of its own thread ID is that of the original, which
/// none of its calls that we use relies on.
pub(crate) fn clone_process(namespaces: UnshareFlags) -> io::Result<Option<Pid>> {
    let flags =
        libc::c_long::from(namespaces.bits().cast_signed()) | libc::c_long::from(libc::SIGCHLD);
    // SAFETY: without a stack, and without CLONE_VM, the copy runs on its own copy of ours; no
    // pointer is passed, so the order of the arguments, which differs by architecture, is all one.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    succeeded(result)?;
    Ok(i32::try_from(result).ok().and_then(Pid::from_raw))
}

/// Gives the calling thread mounts of its own, copies of those it had.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: a mount namespace of its own takes no descriptor from any thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Changes attributes of the mount `tree`, and of all below it: mount_setattr(2), Linux 5.12.
pub(crate) fn set_mount_attributes(tree: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty string that ends with a zero; the pointer and length name
    // `attributes`, which the kernel only reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    succeeded(result)
}

/// Closes all descriptors but standard input, output and error: those that a careless parent left
/// open. To be called before this process has opened any itself.
pub(crate) fn close_inherited() {
    // SAFETY: nobody in this process owns any of them yet. Before Linux 5.9 the call fails, and the
    // rule that our parent's descriptors are close-on-exec holds alone.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Makes `fd` standard input and output.
pub(crate) fn replace_standard(fd: impl AsFd) -> io::Result<()> {
    rustix::stdio::dup2_stdin(&fd)?;
    Ok(rustix::stdio::dup2_stdout(&fd)?)
}

/// Ends the process at once with this status: no destructor runs, nothing is flushed.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}
