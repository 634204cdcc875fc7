//! Reads a container's log file, also while it is being written.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;

use super::frame::{self, HEADER_LEN, Kind};
use super::writer::Stored;

/// One record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// What it holds.
    pub(crate) kind: Kind,
    /// When it was stored.
    pub(crate) time_unix_ns: i64,
    /// Its payload.
    pub(crate) bytes: Bytes,
}

impl Entry {
    /// The stream whose output this is (true: standard error); `None` for other records.
    pub(crate) fn stderr(&self) -> Option<bool> {
        match self.kind {
            Kind::Stdout => Some(false),
            Kind::Stderr => Some(true),
            Kind::RunStart | Kind::StdoutGap | Kind::StderrGap => None,
        }
    }
}

/// A position in a log. Blocks; not for an async task.
#[derive(Debug)]
pub(crate) struct LogReader {
    file: BufReader<File>,
    at: u64,
}

impl LogReader {
    /// Opens the log at `path` at its start; `None` if nothing was ever written.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self { file: BufReader::with_capacity(128 << 10, file), at: 0 })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the next record starts.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Goes to a place that [`Self::position`] once told.
    ///
    /// # Errors
    /// If the file cannot be positioned.
    pub(crate) fn seek(&mut self, position: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(position))?;
        self.at = position;
        Ok(())
    }

    /// The next record that ends at or before `limit`; `None` at the end, and before a torn record,
    /// after which it can be asked again once there is more.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn next(&mut self, limit: u64) -> io::Result<Option<Entry>> {
        if self.at + HEADER_LEN as u64 > limit {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_LEN];
        if !fill(&mut self.file, &mut bytes)? {
            self.seek(self.at)?;
            return Ok(None);
        }
        let header = frame::decode_header(&bytes);
        let Some(header) =
            header.filter(|header| self.at + HEADER_LEN as u64 + header.length as u64 <= limit)
        else {
            self.seek(self.at)?;
            return Ok(None);
        };
        let mut payload = vec![0; header.length];
        if !fill(&mut self.file, &mut payload)? || !frame::is_intact(&header, &bytes, &payload) {
            self.seek(self.at)?;
            return Ok(None);
        }
        self.at += (HEADER_LEN + header.length) as u64;
        Ok(Some(Entry {
            kind: header.kind,
            time_unix_ns: header.time_unix_ns,
            bytes: payload.into(),
        }))
    }
}

/// False if the file ends within.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a whole log adds up to.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Scan {
    /// Where its last whole record ends.
    pub(super) end: u64,
    /// Bytes of the last run.
    pub(super) stored: Stored,
}

impl Scan {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let mut reader =
            LogReader { file: BufReader::with_capacity(1 << 20, file.try_clone()?), at: 0 };
        reader.seek(0)?;
        let mut stored = Stored::default();
        while let Some(entry) = reader.next(u64::MAX)? {
            let length = entry.bytes.len() as u64;
            match entry.kind {
                Kind::RunStart => stored = Stored::default(),
                Kind::Stdout => stored.add(false, length),
                Kind::Stderr => stored.add(true, length),
                Kind::StdoutGap => stored.add(false, gap(&entry.bytes)),
                Kind::StderrGap => stored.add(true, gap(&entry.bytes)),
            }
        }
        Ok(Self { end: reader.position(), stored })
    }
}

fn gap(payload: &[u8]) -> u64 {
    payload.try_into().map_or(0, u64::from_le_bytes)
}
