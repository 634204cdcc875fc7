//! The control socket of a `husk-vmm`: events in, commands out.

use std::io;
use std::path::Path;

use husk_vmm_config::{Command, Event, Statistics, StopReason};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::limits::VMM_LINE_MAX;

/// A connection to a VMM's control socket.
#[derive(Debug)]
pub(crate) struct VmmControl {
    events: BufReader<OwnedReadHalf>,
    commands: OwnedWriteHalf,
}

impl VmmControl {
    /// Connects. The VMM tells all past events again, so nothing is missed.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        let (read, commands) = UnixStream::connect(path).await?.into_split();
        Ok(Self { events: BufReader::new(read), commands })
    }

    /// The next event; `None` once the VMM is gone.
    pub(crate) async fn event(&mut self) -> io::Result<Option<Event>> {
        let mut line = Vec::new();
        let limit = u64::try_from(VMM_LINE_MAX).unwrap_or(u64::MAX);
        let read = (&mut self.events).take(limit).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(io::Error::from)
    }

    /// Waits for the last event; `None` if the VMM went without one.
    pub(crate) async fn stopped(&mut self) -> Option<Stopped> {
        loop {
            match self.event().await {
                Ok(Some(Event::Stopped { reason, console })) => {
                    return Some(Stopped { reason, console });
                }
                Ok(Some(Event::Hello { .. } | Event::Started { .. } | Event::Statistics(_))) => {}
                Ok(None) => return None,
                Err(error) => {
                    tracing::warn!(%error, "failed to read from husk-vmm");
                    return None;
                }
            }
        }
    }

    /// Asks it to end.
    pub(crate) async fn stop(&mut self) -> io::Result<()> {
        self.command(Command::Stop).await
    }

    /// Asks what was counted so far; `None` once the VMM is gone.
    pub(crate) async fn statistics(&mut self) -> io::Result<Option<Statistics>> {
        self.command(Command::Statistics).await?;
        loop {
            match self.event().await? {
                Some(Event::Statistics(statistics)) => return Ok(Some(statistics)),
                Some(Event::Hello { .. } | Event::Started { .. }) => {}
                Some(Event::Stopped { .. }) | None => return Ok(None),
            }
        }
    }

    async fn command(&mut self, command: Command) -> io::Result<()> {
        let mut line = serde_json::to_vec(&command)?;
        line.push(b'\n');
        self.commands.write_all(&line).await
    }
}

/// How a VMM ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stopped {
    /// Why.
    pub(crate) reason: StopReason,
    /// The guest's last console lines.
    pub(crate) console: String,
}

impl Stopped {
    /// Reads the report that a VMM leaves behind; `None` if it left none.
    pub(crate) fn load(path: &Path) -> Option<Self> {
        match serde_json::from_slice(&std::fs::read(path).ok()?).ok()? {
            Event::Stopped { reason, console } => Some(Self { reason, console }),
            Event::Hello { .. } | Event::Started { .. } | Event::Statistics(_) => None,
        }
    }

    /// One line: the reason, and the guest's last words if they explain it.
    pub(crate) fn describe(&self) -> String {
        let (text, with_console) = match &self.reason {
            StopReason::Guest => ("the guest shut down".to_owned(), true),
            StopReason::Requested => ("the microVM was stopped".to_owned(), false),
            StopReason::Setup { error } => (error.clone(), false),
            StopReason::Panic => ("the guest's kernel panicked".to_owned(), true),
            StopReason::Accelerator { error } => (error.clone(), true),
        };
        let lines: Vec<_> =
            self.console.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(5)..];
        if with_console && !last.is_empty() {
            format!("{text}; last console lines: {}", last.join(" | "))
        } else {
            text
        }
    }
}
