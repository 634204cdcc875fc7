//! Decompression: gzip members, zstd frames, or none, to the last byte of the blob.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::chunk::Fanout;
use super::source::Source;
use crate::error::ErrorKind;
use crate::limits::{EXPANSION_FREE_BYTES, EXPANSION_RATIO_MAX, ZSTD_WINDOW_LOG_MAX};
use crate::manifest::Compression;

/// Why decoding stopped.
#[derive(Debug)]
pub(super) enum DecodeFailure {
    /// The bytes are wrong.
    Content(ErrorKind, String),
    /// The bytes stopped coming.
    SourceEnded,
    /// A consumer takes no more; it knows why.
    Refused,
}

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable frames have any low nibble: 0x184D2A5?.
const ZSTD_SKIPPABLE_MAGIC: &[u8] = &[0x2a, 0x4d, 0x18];

/// Decodes all of `source` into `fanout`.
pub(super) fn decode(
    source: &mut Source,
    compression: Compression,
    fanout: &mut Fanout,
) -> Result<(), DecodeFailure> {
    check_magic(source, compression)?;
    match compression {
        Compression::None => copy(source, fanout),
        Compression::Gzip => gunzip(source, fanout),
        Compression::Zstd => unzstd(source, fanout),
    }
}

/// Refuses a stream that is not what its media type says. Formats are never guessed.
fn check_magic(source: &mut Source, compression: Compression) -> Result<(), DecodeFailure> {
    let start = source.fill_buf().map_err(|_| DecodeFailure::SourceEnded)?;
    // The first chunk may be shorter than the magic number.
    let begins = |magic: &[u8]| {
        let length = magic.len().min(start.len());
        length > 0 && start[..length] == magic[..length]
    };
    let is_skippable = start.first().is_some_and(|byte| byte & 0xf0 == 0x50)
        && start.get(1..4).is_none_or(|rest| rest == ZSTD_SKIPPABLE_MAGIC);
    let (matches, name) = match compression {
        Compression::None => (!begins(GZIP_MAGIC) && !begins(ZSTD_MAGIC), "an uncompressed tar"),
        Compression::Gzip => (begins(GZIP_MAGIC), "gzip"),
        Compression::Zstd => (begins(ZSTD_MAGIC) || is_skippable, "zstd"),
    };
    if matches {
        return Ok(());
    }
    corrupt(format!("its media type says {name}, its first bytes do not"))
}

fn copy(source: &mut Source, fanout: &mut Fanout) -> Result<(), DecodeFailure> {
    loop {
        let chunk = source.next_chunk().map_err(|_| DecodeFailure::SourceEnded)?;
        if chunk.is_empty() {
            return Ok(());
        }
        fanout.send_bytes(chunk)?;
    }
}

fn gunzip(source: &mut Source, fanout: &mut Fanout) -> Result<(), DecodeFailure> {
    let mut produced = 0;
    loop {
        let mut member = GzDecoder::new(&mut *source);
        pump(&mut member, |member| member.get_ref().received(), fanout, &mut produced)
            .map_err(|failure| failure.describe("gzip"))?;
        let rest = source.fill_buf().map_err(|_| DecodeFailure::SourceEnded)?;
        match rest.first() {
            None => return Ok(()),
            Some(first) if *first == GZIP_MAGIC[0] => {}
            Some(_) => return corrupt("trailing garbage after the compressed stream".to_owned()),
        }
    }
}

fn unzstd(source: &mut Source, fanout: &mut Fanout) -> Result<(), DecodeFailure> {
    let mut decoder = ZstdDecoder::with_buffer(&mut *source)
        .and_then(|mut decoder| decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map(|()| decoder))
        .map_err(|error| {
            DecodeFailure::Content(ErrorKind::Internal, format!("failed to set up zstd: {error}"))
        })?;
    let mut produced = 0;
    let pumped = pump(&mut decoder, |decoder| decoder.get_ref().received(), fanout, &mut produced);
    pumped.map_err(|failure| match failure {
        // What follows a frame must be a frame.
        PumpFailure::Read(error)
            if produced > 0 && error.to_string().contains("Unknown frame descriptor") =>
        {
            DecodeFailure::Content(
                ErrorKind::Corrupt,
                "trailing garbage after the compressed stream".to_owned(),
            )
        }
        other => other.describe("zstd"),
    })
}

enum PumpFailure {
    Read(io::Error),
    Decode(DecodeFailure),
}

impl PumpFailure {
    fn describe(self, format: &str) -> DecodeFailure {
        match self {
            Self::Decode(failure) => failure,
            Self::Read(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                DecodeFailure::SourceEnded
            }
            Self::Read(error) => DecodeFailure::Content(
                ErrorKind::Corrupt,
                format!("corrupt {format} stream: {error}"),
            ),
        }
    }
}

/// Reads a decoder to its end in full chunks; checks how much it makes of how little.
fn pump<R: Read>(
    reader: &mut R,
    received: impl Fn(&R) -> u64,
    fanout: &mut Fanout,
    produced: &mut u64,
) -> Result<(), PumpFailure> {
    loop {
        let mut buffer = fanout.buffer();
        let mut length = 0;
        while length < buffer.len() {
            match reader.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(count) => {
                    length += count;
                    *produced += u64::try_from(count).expect("a length fits");
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PumpFailure::Read(error)),
            }
        }
        let is_last = length < buffer.len();
        let allowed =
            received(reader).saturating_mul(EXPANSION_RATIO_MAX).max(EXPANSION_FREE_BYTES);
        if *produced > allowed {
            return Err(PumpFailure::Decode(DecodeFailure::Content(
                ErrorKind::TooLarge,
                format!("it expands more than {EXPANSION_RATIO_MAX}-fold; refused"),
            )));
        }
        fanout.send(buffer, length).map_err(PumpFailure::Decode)?;
        if is_last {
            return Ok(());
        }
    }
}

fn corrupt(problem: String) -> Result<(), DecodeFailure> {
    Err(DecodeFailure::Content(ErrorKind::Corrupt, problem))
}
