//! A layer's blob, packed in any way: gzip members, zstd frames, garbage behind them.

#![no_main]

use std::io::Write;

use arbitrary::Arbitrary;
use husk_fuzz::{MEBIBYTE, bounded, honest_stream, scratch_file};
use husk_image::fuzzing::ingest_blob;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    /// What its media type says.
    announced: u8,
    chunk: u16,
    pieces: Vec<Piece>,
    /// Part of the stream is missing at its end.
    missing: u8,
}

#[derive(Arbitrary, Debug)]
enum Piece {
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// A gzip member of those bytes.
    Gzip(Vec<u8>, u8),
    /// A zstd frame of those bytes.
    Zstd(Vec<u8>, u8),
    /// A frame that decoders skip.
    Skippable(u8),
    /// A member of many zeros.
    Zeros(u8),
}

fuzz_target!(|input: Input| {
    bounded(32 * MEBIBYTE, || {
        let mut blob: Vec<u8> =
            input.pieces.iter().take(8).flat_map(Piece::bytes).take(1 << 18).collect();
        blob.truncate(blob.len().saturating_sub(usize::from(input.missing % 16)));
        let output = scratch_file();
        // What it decodes to is not known, so that none of it may be accepted.
        let outcome =
            ingest_blob(&blob, input.announced % 3, chunk(input.chunk), Some(b"\0"), &output);
        assert!(outcome.is_err(), "a wrong diffID is never accepted");
        honest(&input);
    });
});

fn chunk(length: u16) -> usize {
    // Few chunks: each crosses threads.
    usize::from(length).max(64)
}

/// A sound layer arrives whole, however it is cut and packed.
fn honest(input: &Input) {
    let Some(Piece::Raw(content)) = input.pieces.first() else { return };
    let tar = honest_stream(&[("file".to_owned(), content.clone())]);
    let cut = usize::from(input.missing).min(tar.len());
    let (front, back) = tar.split_at(cut);
    let blob = match input.announced % 3 {
        0 => tar.clone(),
        1 => [gzip(front, 1), gzip(back, 6)].concat(),
        _ => [zstd(front, 1), zstd(back, 3)].concat(),
    };
    let outcome =
        ingest_blob(&blob, input.announced % 3, chunk(input.chunk), Some(&tar), &scratch_file());
    assert_eq!(outcome, Ok(1));
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Raw(bytes) => bytes.clone(),
            Self::Gzip(bytes, level) => gzip(bytes, *level),
            Self::Zstd(bytes, level) => zstd(bytes, *level),
            Self::Skippable(length) => {
                let mut frame = vec![0x50, 0x2a, 0x4d, 0x18, *length, 0, 0, 0];
                frame.extend(vec![0; usize::from(*length)]);
                frame
            }
            Self::Zeros(length) => gzip(&vec![0; usize::from(*length) << 10], 1),
        }
    }
}

fn gzip(bytes: &[u8], level: u8) -> Vec<u8> {
    let level = flate2::Compression::new(u32::from(level % 10));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8], level: u8) -> Vec<u8> {
    zstd::encode_all(bytes, i32::from(level % 4)).expect("memory")
}
