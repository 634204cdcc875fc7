//! Standard streams of a process: pipes, or a terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fchown, fcntl_setfl, openat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Uid, ioctl_tiocsctty};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

/// Bytes that an output pipe holds: enough that a writer seldom waits for the agent's turn.
const PIPE_SIZE: usize = 256 << 10;

/// The agent's ends. None of them blocks.
#[derive(Debug, Default)]
pub struct AgentStdio {
    /// Where standard input is written, if it is open.
    pub stdin: Option<OwnedFd>,
    /// Where standard output, or the terminal, is read.
    pub stdout: Option<OwnedFd>,
    /// Where standard error is read; none with a terminal.
    pub stderr: Option<OwnedFd>,
    /// The process's side of the terminal, kept open so that it does not hang up while the process
    /// has it closed; and the side on which its size is set.
    pub terminal: Option<OwnedFd>,
}

impl AgentStdio {
    /// The ends of a terminal, from its controlling side.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of_terminal(controlling: OwnedFd, stdin: bool) -> io::Result<Self> {
        fcntl_setfl(&controlling, OFlags::NONBLOCK | OFlags::RDWR)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let peer = ioctl_tiocgptpeer(&controlling, flags)?;
        // Two descriptors, because each is watched on its own.
        let input = if stdin { Some(fcntl_dupfd_cloexec(&controlling, 3)?) } else { None };
        Ok(Self { stdin: input, stdout: Some(controlling), stderr: None, terminal: Some(peer) })
    }
}

/// The process's ends.
#[derive(Debug)]
pub enum ProcessStdio {
    /// Three descriptors.
    Pipes([OwnedFd; 3]),
    /// A terminal, to be opened in the container.
    Terminal(Winsize),
}

impl ProcessStdio {
    /// Pipes for the output, and for the input or `/dev/null`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pipes(stdin: bool) -> io::Result<(Self, AgentStdio)> {
        let (input, stdin) = if stdin {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setfl(&writer, OFlags::NONBLOCK)?;
            (reader, Some(writer))
        } else {
            (openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
        };
        let (stdout, out) = output_pipe()?;
        let (stderr, error) = output_pipe()?;
        let agent =
            AgentStdio { stdin, stdout: Some(stdout), stderr: Some(stderr), terminal: None };
        Ok((Self::Pipes([input, out, error]), agent))
    }

    /// The descriptors that the process needs.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Pipes(pipes) => pipes.iter().map(AsFd::as_fd).collect(),
            Self::Terminal(_) => Vec::new(),
        }
    }
}

/// Opens a terminal of the devpts mounted at `terminals`: controlling side and process's side.
///
/// # Errors
/// The kernel's.
pub fn open_terminal(terminals: impl AsFd, size: Winsize) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let controlling = openat(terminals, "ptmx", flags, Mode::empty())?;
    unlockpt(&controlling)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let peer = ioctl_tiocgptpeer(&controlling, flags)?;
    tcsetwinsize(&peer, size)?;
    Ok((controlling, peer))
}

/// Gives this process its streams, and the streams to its user, who may want to open them again
/// through `/dev/stdout`.
///
/// # Errors
/// The kernel's.
pub fn install(streams: [BorrowedFd<'_>; 3], uid: u32, terminal: bool) -> io::Result<()> {
    let [stdin, stdout, stderr] = streams;
    for stream in [stdin, stdout, stderr] {
        give(stream, uid)?;
    }
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    if terminal {
        ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    Ok(())
}

/// Makes a stream the user's; `/dev/null` belongs to everyone.
fn give(stream: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    let status = rustix::fs::fstat(stream)?;
    let is_null = status.st_rdev == rustix::fs::makedev(1, 3);
    if is_null || status.st_uid == uid {
        return Ok(());
    }
    Ok(fchown(stream, Some(Uid::from_raw(uid)), None)?)
}

fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    fcntl_setpipe_size(&reader, PIPE_SIZE)?;
    Ok((reader, writer))
}
