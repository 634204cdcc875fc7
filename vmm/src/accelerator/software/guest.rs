//! A running emulator and the threads behind its devices.

use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use husk_devices::virtio::console::Ring;
use husk_vmm_config::step;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::accelerator::{Counts, Ended, Guest, Progress};
use crate::console::Console;
use crate::device_thread::{Inbox, Notice, Worker};
use crate::poll::{Poll, Watch};
use crate::timeline::Timeline;

/// How long the emulator has to call every device of ours.
pub(super) const REACH_TIMEOUT: Duration = Duration::from_secs(10);

/// What is kept of its standard error.
const ERROR_LENGTH: usize = 4096;

/// Bytes read from a stream in one turn, so that one that never ends does not keep the others.
const TURN_LENGTH: usize = 64 << 10;

const CHILD: u32 = 0;
const STDERR: u32 = 1;
const CONSOLE: u32 = 2;
const INBOX: u32 = 3;

/// The emulator. Dropping it kills the emulator, then ends the device threads.
pub(super) struct SoftwareGuest {
    child: Child,
    /// Readable once the child has ended; watched, not read.
    _pidfd: OwnedFd,
    stderr: Option<ChildStderr>,
    errors: Ring,
    console: Option<UnixStream>,
    inbox: Inbox,
    /// Devices that the emulator has yet to call, and until when.
    unreached: usize,
    deadline: Instant,
    started: bool,
    timeline: Arc<Timeline>,
    _workers: Vec<Worker>,
}

/// The threads behind the devices, and what they tell.
pub(super) struct Devices {
    pub(super) workers: Vec<Worker>,
    pub(super) count: usize,
    pub(super) inbox: Inbox,
}

impl SoftwareGuest {
    pub(super) fn new(
        mut child: Child,
        console: UnixStream,
        devices: Devices,
        timeline: Arc<Timeline>,
        poll: &Poll,
    ) -> io::Result<Self> {
        let watched = watch(&mut child, &console, &devices.inbox, poll);
        let (pidfd, stderr) = match watched {
            Ok(watched) => watched,
            Err(error) => {
                kill(&mut child);
                return Err(error);
            }
        };
        Ok(Self {
            child,
            _pidfd: pidfd,
            stderr: Some(stderr),
            errors: Ring::new(ERROR_LENGTH),
            console: Some(console),
            inbox: devices.inbox,
            unreached: devices.count,
            deadline: Instant::now() + REACH_TIMEOUT,
            started: false,
            timeline,
            _workers: devices.workers,
        })
    }

    fn read_stderr(&mut self) {
        read_turn(&mut self.stderr, |bytes| self.errors.push(bytes));
    }

    fn read_console(&mut self, console: &mut Console) {
        read_turn(&mut self.console, |bytes| console.push(bytes));
    }

    fn handle_notices(&mut self) -> Progress {
        let mut progress = Progress::Nothing;
        for notice in self.inbox.drain() {
            match notice {
                Notice::Reached => self.unreached = self.unreached.saturating_sub(1),
                Notice::Activated if self.started => {}
                Notice::Activated => {
                    self.started = true;
                    self.timeline.mark(step::DRIVER);
                    progress = Progress::Started;
                }
                Notice::Failed(error) => return Progress::Ended(Ended::Failed(error)),
            }
        }
        progress
    }

    /// The emulator has ended: what it and the guest said last is still in the pipes.
    fn finish(&mut self, console: &mut Console) -> Progress {
        self.read_stderr();
        self.read_console(console);
        Progress::Ended(match self.child.wait() {
            Ok(status) => verdict(status, self.last_error()),
            Err(error) => Ended::Failed(format!("failed to wait for the emulator: {error}")),
        })
    }

    fn last_error(&self) -> Option<String> {
        let text = self.errors.text();
        let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(line.trim().chars().filter(|c| !c.is_control()).take(512).collect())
    }
}

impl Guest for SoftwareGuest {
    fn handle(&mut self, token: u32, console: &mut Console) -> Progress {
        match token {
            CHILD => return self.finish(console),
            STDERR => self.read_stderr(),
            CONSOLE => self.read_console(console),
            _ => return self.handle_notices(),
        }
        Progress::Nothing
    }

    fn deadline(&self) -> Option<Instant> {
        (self.unreached > 0).then_some(self.deadline)
    }

    fn handle_deadline(&mut self, console: &mut Console) -> Progress {
        self.read_stderr();
        self.read_console(console);
        let seconds = REACH_TIMEOUT.as_secs();
        let mut error = format!("the emulator did not call its devices within {seconds} s");
        if let Some(said) = self.last_error() {
            error = format!("{error}: {said}");
        }
        Progress::Ended(Ended::Failed(error))
    }

    /// The emulator tells of no exits, and its memory is its own.
    fn counts(&self) -> Counts {
        Counts::default()
    }
}

impl Drop for SoftwareGuest {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// What the emulator's end means: it returns 0 when the guest resets or powers off.
fn verdict(status: ExitStatus, said: Option<String>) -> Ended {
    if status.success() {
        return Ended::Guest;
    }
    let said = said.unwrap_or_else(|| "it said nothing".into());
    Ended::Failed(format!("the emulator ended with {status}: {said}"))
}

/// A descriptor that is readable once the child has ended.
pub(super) fn watch_end(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(pidfd_open(pid.ok_or(ErrorKind::InvalidInput)?, PidfdFlags::empty())?)
}

/// Watches all that a child's life shows in.
fn watch(
    child: &mut Child,
    console: &UnixStream,
    inbox: &Inbox,
    poll: &Poll,
) -> io::Result<(OwnedFd, ChildStderr)> {
    let stderr = child.stderr.take().ok_or(ErrorKind::BrokenPipe)?;
    fcntl_setfl(&stderr, fcntl_getfl(&stderr)? | OFlags::NONBLOCK)?;
    console.set_nonblocking(true)?;
    let pidfd = watch_end(child)?;
    poll.add(&pidfd, CHILD.into(), Watch::Readable)?;
    poll.add(&stderr, STDERR.into(), Watch::Readable)?;
    poll.add(console, CONSOLE.into(), Watch::Readable)?;
    poll.add(inbox, INBOX.into(), Watch::Readable)?;
    Ok((pidfd, stderr))
}

/// Ends the child, whatever it does, and waits for it: SIGKILL makes that short.
pub(super) fn kill(child: &mut Child) {
    // It fails only where the child has been waited for already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads what is there, but not for ever; closes the source at its end.
fn read_turn<R: Read>(source: &mut Option<R>, mut take: impl FnMut(&[u8])) {
    let mut bytes = [0; 4096];
    let mut left = TURN_LENGTH;
    while let Some(reader) = source {
        match reader.read(&mut bytes) {
            Ok(count) if count > 0 => {
                take(&bytes[..count]);
                left = left.saturating_sub(count);
                if left == 0 {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Closed, it leaves the event loop as well.
            _ => *source = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn an_emulator_that_returns_0_was_ended_by_the_guest() {
        assert_eq!(verdict(ExitStatus::from_raw(0), Some("noise".into())), Ended::Guest);
    }

    #[test]
    fn any_other_end_carries_what_it_said_last() {
        let Ended::Failed(error) = verdict(ExitStatus::from_raw(1 << 8), Some("no kernel".into()))
        else {
            panic!("status 1 is a failure");
        };
        assert_eq!(error, "the emulator ended with exit status: 1: no kernel");
        let Ended::Failed(error) = verdict(ExitStatus::from_raw(9), None) else {
            panic!("a signal is a failure");
        };
        assert_eq!(error, "the emulator ended with signal: 9 (SIGKILL): it said nothing");
    }
}
