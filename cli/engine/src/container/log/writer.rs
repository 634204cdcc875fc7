//! Appends to a container's log file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::frame::{self, Kind};
use super::reader::Scan;
use crate::clock::now_unix_ns;
use crate::limits::LOG_PAYLOAD_MAX;

/// Bytes of one run that the log accounts for, by stream: where the agent is to go on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stored {
    /// Standard output.
    pub(crate) stdout: u64,
    /// Standard error.
    pub(crate) stderr: u64,
}

impl Stored {
    pub(super) fn add(&mut self, stderr: bool, bytes: u64) {
        let total = if stderr { &mut self.stderr } else { &mut self.stdout };
        *total = total.saturating_add(bytes);
    }
}

/// The one writer of a log file. Blocks; not for an async task.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    /// Bytes of the file up to the end of its last whole record.
    end: u64,
    stored: Stored,
    /// Bytes that could not be written, to be recorded as gaps once there is room again.
    lost: Stored,
}

impl LogWriter {
    /// Opens the log at `path`, or makes it, and cuts off a torn last record.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let Scan { end, stored } = Scan::of(&file)?;
        if file.metadata()?.len() != end {
            file.set_len(end)?;
        }
        file.seek(SeekFrom::Start(end))?;
        Ok(Self { file, end, stored, lost: Stored::default() })
    }

    /// Marks the start of a run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn start_run(&mut self) -> io::Result<()> {
        self.write(Kind::RunStart, now_unix_ns(), &[])?;
        self.stored = Stored::default();
        Ok(())
    }

    /// Appends bytes of one stream and tells when they were stored. Where that fails, as on a full
    /// disk, they count as lost, and a later record says so: the container goes on.
    ///
    /// # Errors
    /// If they could not be written.
    pub(crate) fn append(&mut self, stderr: bool, bytes: &[u8]) -> (i64, io::Result<()>) {
        let time = now_unix_ns();
        let kind = if stderr { Kind::Stderr } else { Kind::Stdout };
        let mut written = 0;
        let result = self.record_losses(time).and_then(|()| {
            bytes.chunks(LOG_PAYLOAD_MAX).try_for_each(|piece| {
                self.write(kind, time, piece)?;
                written += piece.len();
                Ok(())
            })
        });
        self.stored.add(stderr, bytes.len() as u64);
        self.lost.add(stderr, (bytes.len() - written) as u64);
        (time, result)
    }

    /// Where the log ends now.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of this run accounted for.
    pub(crate) fn stored(&self) -> Stored {
        self.stored
    }

    fn record_losses(&mut self, time: i64) -> io::Result<()> {
        if self.lost.stdout > 0 {
            self.write(Kind::StdoutGap, time, &self.lost.stdout.to_le_bytes())?;
            self.lost.stdout = 0;
        }
        if self.lost.stderr > 0 {
            self.write(Kind::StderrGap, time, &self.lost.stderr.to_le_bytes())?;
            self.lost.stderr = 0;
        }
        Ok(())
    }

    fn write(&mut self, kind: Kind, time: i64, payload: &[u8]) -> io::Result<()> {
        let record = frame::encode(kind, time, payload);
        if let Err(error) = self.file.write_all(&record) {
            // Half a record must not stay: the next one would be unreadable behind it.
            self.file.set_len(self.end)?;
            self.file.seek(SeekFrom::Start(self.end))?;
            return Err(error);
        }
        self.end += record.len() as u64;
        Ok(())
    }
}
