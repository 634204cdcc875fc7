//! One `husk-vmm` process: spawned, given its configuration, watched, killed, and found again by
//! a later daemon.
//!
//! It outlives the daemon on purpose. Its identity (process ID and start time) is on disk before
//! it gets its configuration, without which it does nothing and ends with the daemon: so no
//! microVM ever runs that a later daemon cannot find.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use husk_vmm_config::VmConfig;
use husk_vmm_config::handover::{Header, HeaderError, batch_length};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

use super::probe::boot_id;
use crate::limits::VMM_STDERR_MAX;

/// Why a `husk-vmm` could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VmmError {
    /// The program could not be executed.
    #[error("failed to run {program}: is husk installed completely?")]
    Spawn {
        /// Its path.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its identity could not be told or recorded.
    #[error("failed to record husk-vmm")]
    Record(#[source] io::Error),
    /// The configuration is over a limit.
    #[error("failed to hand over the configuration")]
    Header(#[from] HeaderError),
    /// The configuration could not be sent.
    #[error("failed to hand over the configuration")]
    Send(#[source] io::Error),
}

/// Which process it is, for ever: process IDs are used again, start times since boot are not.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct VmmIdentity {
    /// Its process ID.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    start_time: u64,
    /// Which boot.
    boot_id: String,
}

impl VmmIdentity {
    fn of(pid: u32) -> io::Result<Self> {
        let boot_id = boot_id().ok_or_else(|| io::Error::other("the host has no boot ID"))?;
        Ok(Self { pid, start_time: start_time(pid)?, boot_id })
    }

    /// Reads what [`VmmProcess::record`] wrote; `None` if nothing usable is there.
    pub(crate) fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

/// A running `husk-vmm`; dropping it leaves it running.
#[derive(Debug)]
pub(crate) struct VmmProcess {
    identity: VmmIdentity,
    pidfd: AsyncFd<OwnedFd>,
}

impl VmmProcess {
    /// Spawns `program`, its error output going to `stderr`. Answers the process and the socket
    /// that [`hand_over`] takes.
    pub(crate) fn spawn(program: &Path, stderr: File) -> Result<(Self, UnixStream), VmmError> {
        let failed = |source| VmmError::Spawn { program: program.display().to_string(), source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = Command::new(program)
            .arg("run")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().expect("it has not been waited for");
        let process = VmmIdentity::of(pid)
            .and_then(|identity| Ok(Self { identity, pidfd: open_pidfd(pid)? }))
            .map_err(VmmError::Record)?;
        // Reaps it, whenever it ends; others learn of the end by the pidfd.
        tokio::spawn(async move { child.wait().await });
        Ok((process, ours))
    }

    /// Finds the process again; `None` if it has ended.
    pub(crate) fn find(identity: VmmIdentity) -> Option<Self> {
        // The pidfd first: whatever it names cannot be replaced while its start time is compared.
        let pidfd = open_pidfd(identity.pid).ok()?;
        let same = VmmIdentity::of(identity.pid).is_ok_and(|found| found == identity);
        (same && !is_zombie(identity.pid)).then_some(Self { identity, pidfd })
    }

    /// Its process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Writes its identity to `path`.
    pub(crate) fn record(&self, path: &Path) -> Result<(), VmmError> {
        let text = serde_json::to_vec(&self.identity).map_err(io::Error::from);
        text.and_then(|text| std::fs::write(path, text)).map_err(VmmError::Record)
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        if let Err(error) = self.pidfd.ready(Interest::READABLE).await {
            tracing::error!(%error, pid = self.pid(), "failed to watch husk-vmm");
        }
    }

    /// Kills it; [`Self::ended`] tells when it is gone.
    pub(crate) fn kill(&self) {
        match pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::error!(%error, pid = self.pid(), "failed to kill husk-vmm"),
        }
    }
}

/// Sends configuration and descriptors as [`husk_vmm_config::handover`] says. Blocks until the
/// other side has taken them or has ended.
pub(crate) fn hand_over(
    mut socket: UnixStream,
    config: &VmConfig,
    fds: &[OwnedFd],
) -> Result<(), VmmError> {
    let document =
        serde_json::to_vec(config).map_err(|error| VmmError::Send(io::Error::from(error)))?;
    let header = Header::new(document.len(), fds.len())?;
    socket.write_all(&header.encode()).map_err(VmmError::Send)?;
    socket.write_all(&document).map_err(VmmError::Send)?;
    let mut done = 0;
    for _ in 0..header.batch_count() {
        let length = batch_length(fds.len(), done);
        let batch: Vec<BorrowedFd<'_>> = fds[done..done + length].iter().map(AsFd::as_fd).collect();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(length))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&batch)), "the space was made for it");
        sendmsg(&socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)
            .map_err(|error| VmmError::Send(error.into()))?;
        done += length;
    }
    Ok(())
}

/// The end of what a `husk-vmm` wrote to its error output, in one line.
pub(crate) fn stderr_tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(VMM_STDERR_MAX))).ok()?;
    let mut bytes = Vec::new();
    file.take(VMM_STDERR_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join(" | "))
}

#[expect(
    deprecated,
    reason = "the new name is unsafe for types that may change their descriptor; an OwnedFd does not"
)]
fn open_pidfd(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

fn start_time(pid: u32) -> io::Result<u64> {
    stat_field(pid, 22)?.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

fn is_zombie(pid: u32) -> bool {
    stat_field(pid, 3).is_ok_and(|state| state == "Z" || state == "X")
}

/// Field `number` (from 1, at least 3) of `/proc/<pid>/stat`; proc(5).
fn stat_field(pid: u32, number: usize) -> io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses that may hold anything, parentheses too.
    let rest = text.rsplit_once(')').map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_whitespace().nth(number - 3))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
