//! Processes of containers, as the host names them.
//!
//! ```text
//!   Preparing ──▶ Prepared ──▶ Starting ──▶ Running ──▶ Ended
//!       │             │            │                      ▲
//!       └─────────────┴────────────┴──▶ Failing ──────────┘ (or forgotten)
//! ```

pub mod buffer;
pub mod input;
pub mod output;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use husk_protocol::{AgentError, AgentErrorKind, ExitStatus, Stream};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::container::stdio::AgentStdio;
use crate::container::{Container, FirstProcess};
use input::InputStream;
use output::OutputStream;

/// Exit code for a program that could not be executed for another reason than not being found.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code for a program that does not exist.
const NOT_FOUND: u8 = 127;
/// Exit code for everything else that failed, and what is added to a signal's number.
const FAILED: u8 = 128;

/// Who waits for an answer: a connection and its request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caller {
    /// The connection.
    pub connection: u32,
    /// The request's ID.
    pub request: u64,
}

/// Where a process is in its life.
#[derive(Debug)]
pub enum State {
    /// Its container is being made.
    Preparing {
        /// Who asked for it.
        caller: Caller,
        /// The channel to it.
        channel: OwnedFd,
    },
    /// It waits to be started.
    Prepared {
        /// The channel to it.
        channel: OwnedFd,
    },
    /// It executes its program.
    Starting {
        /// Who asked for it.
        caller: Caller,
        /// The channel to it.
        channel: OwnedFd,
    },
    /// Its program runs.
    Running,
    /// It could not be prepared or started, and is about to end.
    Failing {
        /// Who asked for it.
        caller: Caller,
        /// Why.
        error: AgentError,
        /// True: not even prepared, so there never was such a process.
        forget: bool,
    },
    /// It has ended.
    Ended(ExitStatus),
}

impl State {
    /// As errors name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Preparing { .. } => "being created",
            Self::Prepared { .. } => "created",
            Self::Starting { .. } => "starting",
            Self::Running => "running",
            Self::Failing { .. } => "failing",
            Self::Ended(_) => "exited",
        }
    }

    /// The channel to the process, as long as there is one.
    pub fn channel(&self) -> Option<&OwnedFd> {
        match self {
            Self::Preparing { channel, .. }
            | Self::Prepared { channel }
            | Self::Starting { channel, .. } => Some(channel),
            Self::Running | Self::Failing { .. } | Self::Ended(_) => None,
        }
    }
}

/// A process.
#[derive(Debug)]
pub struct Process {
    /// The host's name for it.
    pub name: String,
    /// Its process ID; of use until it has ended.
    pub pid: u32,
    /// Where it is in its life.
    pub state: State,
    /// Who waits for its end.
    pub waiters: Vec<Caller>,
    /// Its container.
    pub container: Container,
    /// Whether the host may feed its standard input.
    pub stdin_wanted: bool,
    stdin: Option<InputStream>,
    stdout: Option<OutputStream>,
    stderr: Option<OutputStream>,
    terminal: Option<OwnedFd>,
}

impl Process {
    /// A process that is being prepared.
    pub fn new(
        name: String,
        stdin_wanted: bool,
        container: Container,
        first: FirstProcess,
        caller: Caller,
    ) -> Self {
        let mut process = Self {
            name,
            pid: first.pid,
            state: State::Preparing { caller, channel: first.channel },
            waiters: Vec::new(),
            container,
            stdin_wanted,
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: None,
        };
        process.set_stdio(first.stdio);
        process
    }

    /// Gives it the agent's ends of its streams.
    pub fn set_stdio(&mut self, stdio: AgentStdio) {
        self.stdin = stdio.stdin.map(InputStream::new);
        self.stdout = stdio.stdout.map(OutputStream::new);
        self.stderr = stdio.stderr.map(OutputStream::new);
        self.terminal = stdio.terminal;
    }

    /// One of its output streams.
    pub fn output(&mut self, stream: Stream) -> Option<&mut OutputStream> {
        match stream {
            Stream::Stdin => None,
            Stream::Stdout => self.stdout.as_mut(),
            Stream::Stderr => self.stderr.as_mut(),
        }
    }

    /// Its standard input, if the host may feed it.
    pub fn input(&mut self) -> Option<&mut InputStream> {
        self.stdin.as_mut()
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::NotFound`] if it has no terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let terminal = self.terminal.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(terminal.as_fd(), size)?)
    }

    /// Takes note of its end: nobody reads its input any more, its output is what can be read now.
    pub fn end(&mut self, status: ExitStatus) {
        self.state = State::Ended(status);
        self.terminal = None;
        if let Some(stdin) = &mut self.stdin {
            stdin.close();
        }
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            output.drain();
        }
    }

    /// An error that says that its state does not allow something.
    pub fn refuse(&self, verb: &str) -> AgentError {
        AgentError {
            kind: AgentErrorKind::InvalidState,
            message: format!("cannot {verb} process {}: it is {}", self.name, self.state.name()),
        }
    }
}

/// All processes, by the host's name and by a number of our own that is never used twice.
#[derive(Debug, Default)]
pub struct Processes {
    by_key: HashMap<u32, Process>,
    next_key: u32,
}

impl Processes {
    /// Adds one. Returns its key.
    pub fn insert(&mut self, process: Process) -> u32 {
        let key = self.next_key;
        self.next_key = self.next_key.checked_add(1).expect("a guest makes fewer processes");
        self.by_key.insert(key, process);
        key
    }

    /// The process with that key.
    pub fn get(&mut self, key: u32) -> Option<&mut Process> {
        self.by_key.get_mut(&key)
    }

    /// Forgets one.
    pub fn remove(&mut self, key: u32) -> Option<Process> {
        self.by_key.remove(&key)
    }

    /// The key of the process that the host calls `name`.
    pub fn key(&self, name: &str) -> Option<u32> {
        self.by_key.iter().find(|(_, process)| process.name == name).map(|(key, _)| *key)
    }

    /// The key of the process with that process ID that has not ended.
    pub fn key_of_pid(&self, pid: u32) -> Option<u32> {
        self.by_key
            .iter()
            .find(|(_, process)| process.pid == pid && !matches!(process.state, State::Ended(_)))
            .map(|(key, _)| *key)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.by_key.values_mut()
    }

    /// True if all have ended.
    pub fn have_all_ended(&self) -> bool {
        self.by_key.values().all(|process| matches!(process.state, State::Ended(_)))
    }

    /// Forgets all, which frees what their containers hold.
    pub fn clear(&mut self) {
        self.by_key.clear();
    }
}

/// The exit code of a process that ended with `code`, or by `signal`: then 128 and its number.
pub fn exit_code(code: Option<i32>, signal: Option<i32>) -> u8 {
    let code = match (code, signal) {
        (Some(code), _) => code & 0xff,
        (None, Some(signal)) => i32::from(FAILED) + signal,
        (None, None) => i32::from(FAILED),
    };
    u8::try_from(code).unwrap_or(FAILED)
}

/// The exit code of a process whose program could not be executed.
pub fn exit_code_of_failure(kind: AgentErrorKind) -> u8 {
    match kind {
        AgentErrorKind::CommandNotFound => NOT_FOUND,
        AgentErrorKind::CommandNotExecutable => NOT_EXECUTABLE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_from_128() {
        assert_eq!(exit_code(None, Some(9)), 137);
        assert_eq!(exit_code(None, Some(15)), 143);
        assert_eq!(exit_code(Some(255), None), 255);
        assert_eq!(exit_code(Some(0), None), 0);
    }

    #[test]
    fn a_program_that_cannot_run_ends_as_in_a_shell() {
        assert_eq!(exit_code_of_failure(AgentErrorKind::CommandNotFound), 127);
        assert_eq!(exit_code_of_failure(AgentErrorKind::CommandNotExecutable), 126);
    }
}
