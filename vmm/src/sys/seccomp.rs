//! Installing system call filters, and telling of the call that one has caught.

use std::cell::Cell;
use std::io::{self, Write};
use std::mem::MaybeUninit;

use rustix::thread::set_no_new_privs;

use super::{ABORTED, checked, exit_now, succeeded};

/// Where `si_syscall` lies in `siginfo_t` on 64-bit systems: signal(7), `include/uapi/asm-generic/siginfo.h`.
const SYSCALL_OFFSET: usize = 24;

thread_local! {
    /// The kind of thread that the filter was installed for.
    static KIND: Cell<&'static str> = const { Cell::new("unnamed") };
}

/// Installs `program` for this thread. What it traps is told as of a thread of that kind.
pub(crate) fn filter_calls(kind: &'static str, program: &[libc::sock_filter]) -> io::Result<()> {
    install_handler()?;
    // When rustix first tells the time it looks for the vDSO, by a call that no list has.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    KIND.set(kind);
    // Without it the kernel takes filters from privileged processes only.
    set_no_new_privs(true)?;
    let program = libc::sock_fprog {
        len: program.len().try_into().map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program's pointer and length name `program`, which the kernel copies and does not
    // change.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    succeeded(result)
}

fn install_handler() -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_flags = libc::SA_SIGINFO;
    action.sa_sigaction = tell as *const () as libc::sighandler_t;
    // SAFETY: the action is initialised. Its handler takes no lock and allocates nothing, which is
    // safe at any time, and does not return.
    let result = unsafe { libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) };
    checked(result as libc::ssize_t).map(|_| ())
}

extern "C" fn tell(
    _signal: libc::c_int,
    info: *const libc::siginfo_t,
    _context: *const libc::c_void,
) {
    // SAFETY: the field lies within the structure.
    let call = unsafe { info.cast::<u8>().add(SYSCALL_OFFSET) };
    // SAFETY: the kernel passes a valid siginfo, and fills this field for SIGSYS of a filter. What
    // another process sends holds some other number there, initialised as well.
    let call = unsafe { call.cast::<libc::c_int>().read_unaligned() };
    let mut line = [0; 160];
    let mut rest = &mut line[..];
    let kind = KIND.get();
    // It fails only where the line has no room, and is cut then.
    let _ = writeln!(
        rest,
        "husk-vmm: the {kind} thread was killed by its system call filter: system call {call}"
    );
    let left = rest.len();
    let told = &line[..line.len() - left];
    // SAFETY: the pointer and length name `told`. Nobody is left to hear that it failed.
    unsafe { libc::write(libc::STDERR_FILENO, told.as_ptr().cast(), told.len()) };
    exit_now(ABORTED)
}

/// Asks to be traced, which no thread of ours may.
#[cfg(test)]
pub(crate) fn trace_me() {
    // SAFETY: the arguments are numbers; nobody traces the calling process afterwards.
    unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0) };
}

/// Becomes another program, which no thread of ours may.
#[cfg(test)]
pub(crate) fn run_program() {
    let none: *const *const libc::c_char = std::ptr::null();
    // SAFETY: the path ends with a zero; Linux takes null for empty lists.
    unsafe { libc::syscall(libc::SYS_execve, c"/bin/true".as_ptr(), none, none) };
}

/// Maps memory for code, which no thread of ours may.
#[cfg(test)]
pub(crate) fn map_code() {
    let (protection, flags) = (libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place of the kernel's choice disturbs no other.
    unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
}
