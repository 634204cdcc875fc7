//! The jail: what is left to this process, and to the emulator, once a guest runs.
//!
//! Whoever escapes from the guest into one of them finds an empty, read-only root directory, no
//! network, no other process, nobody's user ID, no capability and no way to any, no terminal, and a
//! list of system calls made for what the thread does. What the microVM needs came as descriptors;
//! one directory of the host is there, `/vsock`, with the sockets that the guest may call.
//!
//! # Two processes
//!
//! ```text
//! engine ─spawns─▶ husk-vmm, the parent          host's namespaces, nobody, 8 system calls
//!                    └─clone─▶ husk-vmm, inside   PID 1 of a new process namespace
//!                                └─▶ emulator     mounts of its own, else the same namespaces
//! ```
//!
//! A new process namespace begins with a child. The process that the engine spawned stays as a
//! parent that holds nothing, passes signals on, and ends as the one inside ends: identity, exit
//! status, standard error and termination signals are what they were without a jail. The other
//! shape, in which the one inside becomes the engine's own child and the spawned process ends, would
//! save the parent's some 100 KiB, but the engine, and each test and tool that starts a `husk-vmm`,
//! would have to learn, record and reap a process that it did not spawn.
//!
//! The one inside dies with its parent (a death signal, which the first process of a namespace
//! cannot refuse to its parent), and with it, as the kernel has it, all of its namespace. The death
//! signal is set again after each change of user, which clears it, and the parent's pidfd tells
//! whether it died in between. A killed parent is gone a moment before the rest is: who needs to know
//! that nothing writes to a disk any more waits for the end of the control socket.
//!
//! # Order
//!
//! [`enter`] before the configuration is read, as one thread: namespaces. [`Jail::close`] when all
//! that needs a path is done: user, root, limits, capabilities, Landlock. Threads start after that,
//! and each installs its [filter](crate::seccomp) itself.
//!
//! # Who we are
//!
//! Root becomes nobody ([`husk_vmm_config::JAIL_UID`]), the only ID that the new user namespace
//! knows; somebody else stays who they are, under the only ID. All microVMs of a host are the same
//! nobody, yet none reaches another: they do not see each other's processes, cannot be traced, and
//! share no file. Root needs no user namespace to get the others: where there are none it goes
//! without, as nobody still.
//!
//! # What the emulator is left with
//!
//! It gets the same namespaces, user, capabilities and death signal, and a
//! [root](emulator) of the host's programs and libraries, read-only. What remains open, and why:
//! its system calls are what its own `-sandbox` leaves, a list of what is forbidden; it may map
//! memory as code, which is how it works; it sees the processes of its namespace, us, whom it can
//! neither trace (we are not dumpable) nor end (we are its first process); it can read what any
//! program of the host can read below `/usr`.
//!
//! # Without
//!
//! Where namespaces are not to be had the microVM does not start, and the error names the setting.
//! `HUSK_JAIL=best-effort` in the daemon's environment starts it with what is left: no capabilities,
//! limits, Landlock, filters.

mod emulator;
mod identity;
mod landlock;
mod limits;
mod parent;
mod root;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use husk_vmm_config::{VmConfig, step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, pidfd_open, set_parent_process_death_signal,
};
use rustix::thread::UnshareFlags;

pub(crate) use emulator::EmulatorJail;
use identity::Identity;
use root::Root;

use crate::sys::{block_for_child, clone_process, exit_now};
use crate::timeline::Timeline;

/// Where the sockets are that the guest may call.
const DIRECTORY: &str = "/vsock";

/// Says that a jail without namespaces is better than no microVM.
const VARIABLE: &str = "HUSK_JAIL";
const BEST_EFFORT: &str = "best-effort";

/// All but the user namespace.
const NAMESPACES: UnshareFlags = UnshareFlags::NEWPID
    .union(UnshareFlags::NEWNS)
    .union(UnshareFlags::NEWNET)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWCGROUP);

/// Why there is no jail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JailError {
    /// The host does not let us.
    #[error("failed to make namespaces for the jail ({reason}): {}", parent::remedy())]
    Namespaces {
        /// What the kernel said.
        reason: io::Error,
    },
    /// The IDs of the user namespace.
    #[error("failed to map a user into the jail: is it among those of /proc/self/uid_map?")]
    Map(#[source] io::Error),
    /// Something of the host that is needed inside.
    #[error("failed to bring {path} into the jail")]
    Path {
        /// Its path on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The root directory; some hosts hand out user namespaces without power over mounts.
    #[error("failed to {attempt} for the jail (it takes Linux 5.12): {}", parent::remedy())]
    Root {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Anything else.
    #[error("failed to {attempt} for the jail")]
    Process {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// A jail that is entered, but not closed: what the host has can still be opened by path.
#[derive(Debug)]
pub(crate) struct Jail {
    identity: Identity,
    namespaces: bool,
    /// The process that the engine knows, and the descriptor that tells of its end.
    outer: Pid,
    parent: Option<OwnedFd>,
    /// The directory of the sockets on the host, and the longest file to be written, in bytes.
    directory: PathBuf,
    file_length_max: u64,
    timeline: Arc<Timeline>,
}

/// Continues in new namespaces. The calling process, of one thread, stays behind and ends when, and
/// as, this one does.
pub(crate) fn enter(timeline: &Arc<Timeline>) -> Result<Jail, JailError> {
    let failed = |attempt| move |source| JailError::Process { attempt, source };
    let io = |error: Errno| io::Error::from(error);
    let identity = Identity::choose();
    let outer = getpid();
    let watch = pidfd_open(outer, PidfdFlags::empty());
    let watch = watch.map_err(io).map_err(failed("watch the parent"))?;
    let pipe = pipe_with(PipeFlags::CLOEXEC).map_err(io);
    let (receiver, sender) = pipe.map_err(failed("make a pipe"))?;
    block_for_child().map_err(failed("block signals"))?;
    let jail = |parent: Option<OwnedFd>| Jail {
        identity,
        namespaces: parent.is_some(),
        outer,
        parent,
        directory: PathBuf::new(),
        file_length_max: u64::MAX,
        timeline: timeline.clone(),
    };
    match clone(identity) {
        Ok((Some(child), mapped)) => {
            drop(receiver);
            Err(parent::serve(child, identity, mapped, sender, &watch))
        }
        Ok((None, _)) => {
            drop(sender);
            die_with(&watch).map_err(failed("follow the parent"))?;
            // One byte: the user namespace has its ID. None: there will be none, as the parent says.
            if !matches!(rustix::io::read(&receiver, &mut [0]), Ok(1)) {
                exit_now(1);
            }
            Ok(jail(Some(watch)))
        }
        Err(_) if std::env::var(VARIABLE).is_ok_and(|value| value == BEST_EFFORT) => Ok(jail(None)),
        Err(reason) => Err(JailError::Namespaces { reason }),
    }
}

/// A copy of this process in new namespaces, and whether a user namespace is among them.
fn clone(identity: Identity) -> io::Result<(Option<Pid>, bool)> {
    match clone_process(NAMESPACES | UnshareFlags::NEWUSER) {
        Ok(copy) => Ok((copy, true)),
        Err(_) if identity.is_assumed() => Ok((clone_process(NAMESPACES)?, false)),
        Err(error) => Err(error),
    }
}

/// From now on the end of the parent is ours, even if it has come already.
fn die_with(parent: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut ended = [PollFd::new(parent, PollFlags::IN)];
    if poll(&mut ended, Some(&Timespec::default()))? > 0 {
        exit_now(1);
    }
    Ok(())
}

impl Jail {
    /// The process ID by which the engine knows us.
    pub(crate) fn outer_pid(&self) -> u32 {
        self.outer.as_raw_nonzero().get().unsigned_abs()
    }

    /// Learns what the microVM needs; in `config` paths are from now on those of the jail.
    pub(crate) fn fit(&mut self, config: &mut VmConfig) {
        self.file_length_max = limits::longest_file(config);
        self.directory.clone_from(&config.vsock.directory);
        if self.namespaces {
            config.vsock.directory = DIRECTORY.into();
        }
    }

    /// What the process that becomes the emulator at `program` has to enter; `program` without links.
    pub(crate) fn emulator(&self, program: &Path) -> EmulatorJail {
        EmulatorJail::new(program, self)
    }

    /// Closes it, for good: from now on nothing can be opened by path but the sockets in the
    /// directory. To be called before there are other threads.
    pub(crate) fn close(self) -> Result<(), JailError> {
        let failed = |attempt| move |source| JailError::Process { attempt, source };
        let mut root = Root::default();
        if self.namespaces {
            root.show(&self.directory, Path::new(DIRECTORY))?;
        }
        self.identity.assume().map_err(failed("become nobody"))?;
        if let Some(parent) = &self.parent {
            die_with(parent).map_err(failed("follow the parent"))?;
            root.enter()?;
        }
        limits::set(self.file_length_max).map_err(failed("set limits"))?;
        identity::drop_privileges().map_err(failed("drop privileges"))?;
        let directory = if self.namespaces { Path::new(DIRECTORY) } else { &self.directory };
        landlock::restrict(directory).map_err(failed("restrict itself by Landlock"))?;
        self.timeline.mark(step::JAILED);
        Ok(())
    }
}
