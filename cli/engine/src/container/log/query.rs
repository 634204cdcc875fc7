//! Which part of a log a client wants: streams, times, and the last lines.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use super::reader::{Entry, LogReader};
use crate::request::{LogQuery, OutputChunk};

/// Where output starts that is limited to the last lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct LineStart {
    /// The record's position in the file.
    record: u64,
    /// The byte in its payload.
    byte: usize,
    /// Streams (output, error) that are within a line there, which is not one of the last ones.
    within: [bool; 2],
}

/// Takes from records what the query wants.
#[derive(Debug)]
pub(crate) struct Selection {
    query: LogQuery,
    /// Where to start, until it is reached.
    start: Option<LineStart>,
    /// Streams whose bytes are left out up to the next newline.
    skipping: [bool; 2],
}

impl Selection {
    /// Prepares a query over the log up to `limit`, and puts `reader` where its output starts.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn prepare(query: LogQuery, reader: &mut LogReader, limit: u64) -> io::Result<Self> {
        let mut selection = Self { query, start: None, skipping: [false; 2] };
        let Some(lines) = selection.query.tail else { return Ok(selection) };
        match selection.last_lines(reader, limit, lines)? {
            Some(start) => {
                reader.seek(start.record)?;
                selection.skipping = start.within;
                selection.start = Some(start);
            }
            // No such line: what is written from now on may still follow.
            None => reader.seek(limit)?,
        }
        Ok(selection)
    }

    /// What of the record at `position` is wanted, if anything.
    pub(crate) fn take(&mut self, position: u64, entry: &Entry) -> Option<OutputChunk> {
        let stderr = self.wanted(entry)?;
        let mut bytes = entry.bytes.clone();
        if let Some(start) = self.start.take_if(|start| start.record == position) {
            bytes = bytes.slice(start.byte..);
        }
        if self.skipping[usize::from(stderr)] {
            let newline = bytes.iter().position(|byte| *byte == b'\n')?;
            bytes = bytes.slice(newline + 1..);
            self.skipping[usize::from(stderr)] = false;
        }
        let chunk = |bytes: Bytes| OutputChunk { stderr, time_unix_ns: entry.time_unix_ns, bytes };
        (!bytes.is_empty()).then(|| chunk(bytes))
    }

    fn wanted(&self, entry: &Entry) -> Option<bool> {
        let stderr = entry.stderr()?;
        let of_stream = if stderr { self.query.stderr } else { self.query.stdout };
        let time = entry.time_unix_ns;
        let in_time = self.query.since_unix_ns.is_none_or(|since| time >= since)
            && self.query.until_unix_ns.is_none_or(|until| time <= until);
        (of_stream && in_time).then_some(stderr)
    }

    /// Where the last `lines` lines start: each stream has lines of its own, and a line counts
    /// where its first byte is. `None` if there is none.
    fn last_lines(
        &self,
        reader: &mut LogReader,
        limit: u64,
        lines: u64,
    ) -> io::Result<Option<LineStart>> {
        let lines = usize::try_from(lines).unwrap_or(usize::MAX);
        let mut starts = VecDeque::new();
        let mut within = [false; 2];
        loop {
            let record = reader.position();
            let Some(entry) = reader.next(limit)? else { break };
            let Some(stderr) = self.wanted(&entry) else { continue };
            for (byte, value) in entry.bytes.iter().enumerate() {
                if !within[usize::from(stderr)] && lines > 0 {
                    if starts.len() == lines {
                        starts.pop_front();
                    }
                    starts.push_back(LineStart { record, byte, within });
                }
                within[usize::from(stderr)] = *value != b'\n';
            }
        }
        Ok(starts.pop_front())
    }
}
