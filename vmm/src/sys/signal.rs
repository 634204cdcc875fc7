//! Termination signals as a descriptor that becomes readable.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Signal;

use super::rights::owned;

/// SIGTERM, SIGINT and SIGHUP, blocked and readable.
#[derive(Debug)]
pub(crate) struct TerminationSignals(OwnedFd);

impl TerminationSignals {
    /// Blocks them in this thread and all it starts from here on: to be called before others run.
    pub(crate) fn block() -> io::Result<Self> {
        let set = signal_set(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP]);
        // SAFETY: the set is initialised, and no old set is asked for.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is initialised, and -1 asks for a new descriptor.
        owned(unsafe { libc::signalfd(-1, &set, flags) }).map(Self)
    }
}

impl AsFd for TerminationSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The signals that [`wait_for_child`] waits for.
const AWAITED: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD];

/// Gives the signals that the Rust runtime handles or ignores their default action again: for a
/// process that ends by the one that ended its child.
pub(crate) fn default_handlers() -> io::Result<()> {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGPIPE] {
        // SAFETY: the default action is valid for each of them; their handlers were the runtime's.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Blocks the signals that [`wait_for_child`] waits for, in this process and its copies.
pub(crate) fn block_for_child() -> io::Result<()> {
    let set = signal_set(&AWAITED);
    // SAFETY: the set is initialised, and no old set is asked for.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Waits for a signal to a process that [`block_for_child`] prepared, and answers it.
pub(crate) fn wait_for_child() -> Option<Signal> {
    let set = signal_set(&AWAITED);
    // SAFETY: the set is initialised, and no further information is asked for.
    let signal = unsafe { libc::sigwaitinfo(&set, std::ptr::null_mut()) };
    // It fails only where a signal outside the set interrupted it.
    Signal::from_named_raw(signal)
}

/// Blocks nothing: what a child should start with. Safe between fork and exec.
pub(crate) fn unblock_all() {
    let set = signal_set(&[]);
    // SAFETY: the set is initialised, no old set is asked for; the call allocates nothing and
    // takes no lock, so it may come between fork and exec.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) };
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has just initialised it.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: the set is initialised; a number that is no signal would be refused.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}
