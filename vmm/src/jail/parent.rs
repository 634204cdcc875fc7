//! The process that stays outside: the one that the engine knows.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, chdir, pidfd_open, pidfd_send_signal, waitpid,
};

use super::JailError;
use super::identity::{self, Identity};
use crate::seccomp::{self, ThreadKind};
use crate::sys::{
    ABORTED, default_handlers, exit_now, replace_standard, unblock_all, wait_for_child,
};

/// What is told of a child whose signals were blocked when its system call filter ended it.
const FILTERED: &[u8] = b"husk-vmm: killed by its system call filter\n";

/// Gives the child its ID and lets it go on; gives everything else up, and waits. Answers only if it could not.
pub(super) fn serve(
    child: Pid,
    identity: Identity,
    mapped: bool,
    go: OwnedFd,
    own: &OwnedFd,
) -> JailError {
    let failed = |attempt| move |source| JailError::Process { attempt, source };
    let pidfd = pidfd_open(child, PidfdFlags::empty());
    let release = || -> Result<OwnedFd, JailError> {
        let pidfd = pidfd.map_err(io::Error::from).map_err(failed("watch the child"))?;
        if mapped {
            identity.map(child).map_err(JailError::Map)?;
        }
        let told = rustix::io::write(&go, &[1]).map_err(io::Error::from);
        told.map_err(failed("tell the child to go on"))?;
        Ok(pidfd)
    };
    let released = release();
    // The child hears of a failure by this, and ends.
    drop(go);
    let error = match released {
        Ok(pidfd) => match confine(identity) {
            Ok(()) => wait(child, &pidfd, own),
            Err(source) => {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                failed("confine the parent")(source)
            }
        },
        Err(error) => error,
    };
    let _ = waitpid(Some(child), WaitOptions::empty());
    error
}

/// Keeps standard error, nothing else.
fn confine(identity: Identity) -> io::Result<()> {
    replace_standard(File::open("/dev/null")?)?;
    chdir("/")?;
    default_handlers()?;
    identity.assume()?;
    identity::drop_privileges()?;
    seccomp::install(ThreadKind::Parent).map_err(io::Error::other)
}

/// Waits for the end of the child, and ends as it did.
fn wait(child: Pid, pidfd: &OwnedFd, own: &OwnedFd) -> ! {
    loop {
        match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => end(status, own),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            // Someone else has collected it, which nobody does.
            Err(_) => exit_now(1),
        }
        let Some(signal) = wait_for_child() else { continue };
        if signal != Signal::CHILD && pidfd_send_signal(pidfd, signal).is_err() {
            // As long as the child has not become the same user it cannot be told: it dies with us.
            end_by(signal, own);
        }
    }
}

fn end(status: WaitStatus, own: &OwnedFd) -> ! {
    if let Some(signal) = status.terminating_signal().and_then(Signal::from_named_raw) {
        if signal == Signal::SYS {
            // It could not tell itself. Nobody is left to hear that we could not either.
            let _ = rustix::io::write(rustix::stdio::stderr(), FILTERED);
        }
        end_by(signal, own);
    }
    match status.exit_status() {
        Some(ABORTED) => end_by(Signal::ABORT, own),
        Some(code) => exit_now(code),
        None => exit_now(1),
    }
}

fn end_by(signal: Signal, own: &OwnedFd) -> ! {
    unblock_all();
    let _ = pidfd_send_signal(own, signal);
    exit_now(128 + signal.as_raw())
}

/// What has to be changed on this host so that there are namespaces.
pub(super) fn remedy() -> String {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
    };
    let alternative = "or run the daemon as root, or with HUSK_JAIL=best-effort";
    if number("kernel/unprivileged_userns_clone") == Some(0) {
        format!("set the sysctl kernel.unprivileged_userns_clone to 1, {alternative}")
    } else if number("user/max_user_namespaces") == Some(0) {
        format!("set the sysctl user.max_user_namespaces above 0, {alternative}")
    } else if number("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        format!("set the sysctl kernel.apparmor_restrict_unprivileged_userns to 0, {alternative}")
    } else {
        "are namespaces forbidden here, as in a container? HUSK_JAIL=best-effort in the daemon's \
         environment does without"
            .to_owned()
    }
}
