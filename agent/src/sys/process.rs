//! Making, replacing, signalling and ending processes.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::{check, check_long};

/// `CLONE_INTO_CGROUP`, which libc declares in a type too small for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The exit code of a child whose preparation panicked.
const PANICKED: i32 = 128;

/// Clones this process into new namespaces (`CLONE_NEW…` flags) and a cgroup, and runs `child`
/// there; it ends with `child`. Returns the clone's process ID.
///
/// The clone has a copy of all memory, one thread, and of the descriptors only the standard ones
/// and those in `kept`: others are closed, so that it keeps no pipe of another process open.
/// `child` finds such a descriptor, if it uses it all the same, not to be open.
///
/// # Errors
/// The kernel's; [`io::ErrorKind::ResourceBusy`] if this process has more than one thread, because
/// locks that another thread holds would stay locked in the clone for ever.
pub fn spawn(
    namespaces: u64,
    cgroup: BorrowedFd<'_>,
    kept: &[BorrowedFd<'_>],
    child: impl FnOnce() -> Infallible,
) -> io::Result<u32> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // SAFETY: clone_args is plain data, for which all zeros is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces | CLONE_INTO_CGROUP;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    // SAFETY: the arguments are a clone_args and its size; without CLONE_VM the child has its own
    // copy of memory and stack, and this process has no other thread (checked above), so the copy
    // is consistent.
    let pid = check_long(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>())
    })?;
    if pid != 0 {
        return Ok(u32::try_from(pid).expect("process IDs fit 22 bits"));
    }
    close_all_but(kept);
    match catch_unwind(AssertUnwindSafe(child)) {
        Ok(never) => match never {},
        Err(_) => exit(PANICKED),
    }
}

/// Closes all descriptors but the standard ones and `kept`.
fn close_all_but(kept: &[BorrowedFd<'_>]) {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if first < fd {
            // SAFETY: this is a fresh clone that ends without running destructors, so nobody
            // closes or uses these numbers again.
            unsafe { libc::close_range(first, fd - 1, 0) };
        }
        first = first.max(fd.saturating_add(1));
    }
}

/// Ends this process at once: no destructor, no handler.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

/// Moves this process into new namespaces (`CLONE_NEW…` flags, none of which concerns threads).
///
/// # Errors
/// The kernel's.
pub fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare takes a number; without CLONE_FILES the descriptor table, on which the
    // ownership of descriptors rests, stays as it is.
    check(unsafe { libc::unshare(namespaces & !libc::CLONE_FILES) }).map(drop)
}

/// Replaces the program of this process. Returns only if that failed.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: the path is a C string, and both arrays hold pointers to C strings that outlive the
    // call, with a null pointer at the end.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Sends a signal to one process.
///
/// # Errors
/// The kernel's.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: kill takes numbers only.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}
