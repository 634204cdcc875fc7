//! Signals as readable events, and their dispositions.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// Readable when a child has ended.
#[derive(Debug)]
pub struct ChildSignal(OwnedFd);

impl ChildSignal {
    /// Blocks `SIGCHLD` for this thread and reports it through the descriptor instead.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let mask = mask_of(&[libc::SIGCHLD]);
        // SAFETY: `mask` is an initialised signal set, and the old one is not asked for.
        check(unsafe {
            libc::sigprocmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut())
        })?;
        // SAFETY: -1 asks for a new descriptor; `mask` is an initialised signal set.
        let fd = check(unsafe {
            libc::signalfd(-1, &raw const mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        })?;
        // SAFETY: signalfd returned a new descriptor, which nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes the pending notices, so that the descriptor is readable again only for new ones.
    pub fn drain(&self) {
        let mut notice = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the buffer is as large as the length says; nothing reads what is stored in it.
        while unsafe {
            libc::read(
                self.0.as_raw_fd(),
                notice.as_mut_ptr().cast(),
                size_of::<libc::signalfd_siginfo>(),
            )
        } > 0
        {}
    }
}

impl AsFd for ChildSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives every signal its default disposition and unblocks all: what a program may expect.
pub fn restore_defaults() {
    // As the kernel lays it out: handler, flags, restorer, mask. All zeros is SIG_DFL. libc's own
    // wrapper would leave out the two signals that it keeps to itself.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the action is as long as the kernel reads (its mask is 8 bytes, as told) and
        // installs no handler; numbers that may not be changed are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    let none = mask_of(&[]);
    // SAFETY: `none` is an initialised signal set, and the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

fn mask_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut mask = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set is initialised; a bad number is refused.
        unsafe { libc::sigaddset(mask.as_mut_ptr(), *signal) };
    }
    // SAFETY: sigemptyset has initialised it.
    unsafe { mask.assume_init() }
}
