//! Writing, tearing and reading back.

use std::fs::OpenOptions;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::request::LogQuery;

fn write(path: &Path, pieces: &[(bool, &[u8])]) -> LogWriter {
    let mut writer = LogWriter::open(path).unwrap();
    writer.start_run().unwrap();
    for (stderr, bytes) in pieces {
        writer.append(*stderr, bytes).1.unwrap();
    }
    writer
}

fn both() -> LogQuery {
    LogQuery { stdout: true, stderr: true, ..LogQuery::default() }
}

fn read(path: &Path, query: LogQuery) -> Vec<(bool, Vec<u8>)> {
    let mut reader = LogReader::open(path).unwrap().unwrap();
    let limit = path.metadata().unwrap().len();
    let mut selection = Selection::prepare(query, &mut reader, limit).unwrap();
    let mut found = Vec::new();
    loop {
        let position = reader.position();
        let Some(entry) = reader.next(limit).unwrap() else { return found };
        if let Some(chunk) = selection.take(position, &entry) {
            found.push((chunk.stderr, chunk.bytes.to_vec()));
        }
    }
}

fn text(found: &[(bool, Vec<u8>)]) -> String {
    found.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect()
}

#[test]
fn bytes_come_back_as_they_were_and_by_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let pieces: [(bool, &[u8]); 4] =
        [(false, b"a\nb"), (true, b"\xff\x00"), (false, b""), (false, b"c\n")];
    let writer = write(&path, &pieces);
    assert_eq!(writer.stored(), Stored { stdout: 5, stderr: 2 });
    assert_eq!(
        read(&path, both()),
        [(false, b"a\nb".to_vec()), (true, b"\xff\x00".to_vec()), (false, b"c\n".to_vec())]
    );
    let errors = LogQuery { stderr: true, ..LogQuery::default() };
    assert_eq!(read(&path, errors), [(true, b"\xff\x00".to_vec())]);
}

#[test]
fn every_run_counts_its_own_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    drop(write(&path, &[(false, b"first\n")]));
    drop(write(&path, &[(false, b"2\n"), (true, b"e")]));
    let writer = LogWriter::open(&path).unwrap();
    assert_eq!(writer.stored(), Stored { stdout: 2, stderr: 1 });
    assert_eq!(text(&read(&path, both())), "first\n2\ne");
}

#[test]
fn the_last_lines_are_those_that_start_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    drop(write(&path, &[(false, b"one\ntw"), (true, b"oops\n"), (false, b"o\nthree\n")]));
    let tail = |lines| text(&read(&path, LogQuery { tail: Some(lines), ..both() }));
    assert_eq!(tail(0), "");
    assert_eq!(tail(1), "three\n");
    // The rest of "two" is left out: its line started before.
    assert_eq!(tail(2), "oops\nthree\n");
    assert_eq!(tail(3), "twoops\no\nthree\n");
    assert_eq!(tail(4), "one\ntwoops\no\nthree\n");
    assert_eq!(tail(99), "one\ntwoops\no\nthree\n");
}

#[test]
fn times_bound_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut writer = LogWriter::open(&path).unwrap();
    let (before, _) = writer.append(false, b"early\n");
    std::thread::sleep(std::time::Duration::from_millis(2));
    let (after, _) = writer.append(false, b"late\n");
    assert!(after > before);
    let since = LogQuery { since_unix_ns: Some(after), ..both() };
    let until = LogQuery { until_unix_ns: Some(before), ..both() };
    assert_eq!(text(&read(&path, since)), "late\n");
    assert_eq!(text(&read(&path, until)), "early\n");
}

proptest! {
    #[test]
    fn a_log_cut_anywhere_keeps_every_whole_record(
        pieces in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut ends = Vec::new();
        let mut writer = LogWriter::open(&path).unwrap();
        for (stderr, bytes) in &pieces {
            writer.append(*stderr, bytes).1.unwrap();
            ends.push(writer.end());
        }
        drop(writer);
        let length = path.metadata().unwrap().len();
        let cut = cut.index(usize::try_from(length).unwrap() + 1) as u64;
        OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();

        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut writer = LogWriter::open(&path).unwrap();
        let kept: usize = pieces[..whole].iter().map(|(_, bytes)| bytes.len()).sum();
        let stored = writer.stored();
        prop_assert_eq!(stored.stdout + stored.stderr, kept as u64);

        writer.append(false, b"next").1.unwrap();
        let found: Vec<u8> = read(&path, both()).into_iter().flat_map(|(_, bytes)| bytes).collect();
        let mut expected: Vec<u8> =
            pieces[..whole].iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        expected.extend_from_slice(b"next");
        prop_assert_eq!(found, expected);
    }
}
