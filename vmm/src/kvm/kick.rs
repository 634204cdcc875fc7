//! Getting a vCPU's thread out of the guest, with no wake-up lost.
//!
//! Who stops a vCPU first sets `immediate_exit` in the page that its thread shares with KVM, then
//! sends the thread a signal whose handler does nothing. Is the thread in the guest, the signal
//! gets it out; is it in a system call of ours, the signal may be gone before it enters the guest,
//! but KVM looks at the flag first. Nobody clears the flag: a kicked vCPU never runs again.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::thread::JoinHandleExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use kvm_ioctls::VcpuFd;

/// The flag in a vCPU's page.
#[derive(Debug)]
pub(super) struct ExitFlag(NonNull<AtomicU8>);

// SAFETY: the flag is only ever accessed as an atomic, which any thread may do.
unsafe impl Send for ExitFlag {}

impl ExitFlag {
    /// The flag of that vCPU; to be used only as long as the vCPU exists.
    pub(super) fn of(vcpu: &mut VcpuFd) -> Self {
        let flag = &raw mut vcpu.get_kvm_run().immediate_exit;
        Self(NonNull::new(flag.cast()).expect("the page is mapped"))
    }

    /// Makes the thread's next or present call of KVM_RUN return.
    ///
    /// `thread` gives the vCPU back when it is joined, so that both exist as long as the handle.
    pub(super) fn kick(&self, thread: &JoinHandle<VcpuFd>) {
        // SAFETY: the pointer leads into the page that the vCPU keeps mapped, and the vCPU belongs
        // to the thread or, once that has ended, to its handle, which the caller holds. This
        // process accesses the byte only here; the kernel only reads it.
        unsafe { self.0.as_ref() }.store(1, Ordering::SeqCst);
        // SAFETY: the thread has not been joined, since its handle exists; the signal's handler
        // does nothing.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), signal()) };
    }
}

/// The first real-time signal: nobody else uses it here.
fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn ignore(_signal: libc::c_int) {}

/// Makes the signal interrupt calls and do nothing else; before any vCPU runs.
pub(super) fn install_handler() -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags (so that calls are not restarted),
    // an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = ignore as *const () as libc::sighandler_t;
    // SAFETY: the action is initialised, and its handler does nothing, which is safe at any time.
    let result = unsafe { libc::sigaction(signal(), &action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
