//! Programs on a terminal of their own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::command::ended_within;
use crate::{Result, pace};

/// A program whose controlling terminal we hold the other end of; dropping it kills it.
#[derive(Debug)]
pub struct OnTerminal {
    ours: File,
    child: Child,
    seen: Vec<u8>,
}

impl OnTerminal {
    /// Runs a command on a new terminal of this size.
    ///
    /// # Errors
    /// If there is no terminal to be had, or the command cannot be executed.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs: OwnedFd = open(name.as_c_str(), flags, Mode::empty())?;
        tcsetwinsize(&ours, size(rows, columns))?;
        // setsid makes the terminal the program's controlling one, for Ctrl-C and SIGWINCH.
        let mut wrapped = Command::new("setsid");
        wrapped.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(variable, value),
                None => wrapped.env_remove(variable),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            wrapped.current_dir(folder);
        }
        let child = wrapped
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::from(theirs.try_clone()?))
            .stderr(Stdio::from(theirs))
            .spawn()
            .context("failed to start setsid")?;
        Ok(Self { ours: File::from(ours), child, seen: Vec::new() })
    }

    /// Types bytes.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn type_in(&mut self, bytes: &[u8]) -> Result<()> {
        self.ours.write_all(bytes).context("failed to type")
    }

    /// The terminal's modes, for a comparison of before and after.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn modes(&self) -> Result<String> {
        Ok(format!("{:?}", tcgetattr(&self.ours)?))
    }

    /// Changes the terminal's size.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        tcsetwinsize(&self.ours, size(rows, columns)).context("failed to resize the terminal")
    }

    /// Reads until `text` has appeared behind what was expected before.
    ///
    /// # Errors
    /// If it does not within `limit`, or the program ends first.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + pace::patience(limit);
        loop {
            let found = self.seen.windows(text.len()).position(|part| part == text.as_bytes());
            if let Some(at) = found {
                self.seen.drain(..at + text.len());
                return Ok(());
            }
            if !self.read_until(until)? {
                bail!(
                    "no {text:?} on the terminal, but: {:?}",
                    String::from_utf8_lossy(&self.seen)
                );
            }
        }
    }

    /// Waits for the program's end and returns its status and what it wrote last.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub fn wait(mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let limit = pace::patience(limit);
        let until = Instant::now() + limit;
        while self.read_until(until)? {}
        let left = until.saturating_duration_since(Instant::now());
        let ended = ended_within(Pid::from_child(&self.child), left)?;
        let text = String::from_utf8_lossy(&self.seen).into_owned();
        ensure!(ended, "no end after {limit:?}; on the terminal: {text:?}");
        Ok((self.child.wait()?, text))
    }

    /// Reads once; false at the end or after `until`.
    fn read_until(&mut self, until: Instant) -> Result<bool> {
        let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now()))?;
        let mut fds = [PollFd::new(&self.ours, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout))? == 0 {
            return Ok(false);
        }
        let mut chunk = [0; 4096];
        // A terminal whose last holder is gone reads as an error, not as an end.
        let length = self.ours.read(&mut chunk).unwrap_or(0);
        self.seen.extend_from_slice(&chunk[..length]);
        Ok(length > 0)
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Already reaped after `wait`; both are then harmless.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
