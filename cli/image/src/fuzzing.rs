//! The parsers of registry bytes, opened to the fuzz targets: built with `--cfg fuzzing` only.

use std::fs::File;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::config::parse_config;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::ingest::ingest;
use crate::limits::{INDEX_ENTRIES_MAX, LAYERS_MAX};
use crate::manifest::{Compression, Descriptor, Document, LayerDescriptor, parse_document};
use crate::registry::is_challenge;

/// Runs a blob through all of a layer's way in, as the registry would send it: in chunks of
/// `chunk` bytes. Compression is 0 for none, 1 for gzip, else zstd. `tar` is what the blob should
/// decode to, if that is known.
///
/// Returns the entries of the layer, or the failure as text.
///
/// # Errors
/// Whatever is wrong with the blob, in words.
pub fn ingest_blob(
    blob: &[u8],
    compression: u8,
    chunk: usize,
    tar: Option<&[u8]>,
    output: &File,
) -> Result<u64, String> {
    let (sender, receiver) = mpsc::channel(blob.len() / chunk.max(1) + 2);
    for piece in blob.chunks(chunk.max(1)) {
        sender.try_send(Bytes::copy_from_slice(piece)).expect("the channel has room for all");
    }
    drop(sender);
    let compression = match compression {
        0 => Compression::None,
        1 => Compression::Gzip,
        _ => Compression::Zstd,
    };
    let size = u64::try_from(blob.len()).expect("a length fits");
    let descriptor = Descriptor { digest: Digest::of(blob), size };
    let layer = LayerDescriptor { descriptor, compression };
    let diff_id = Digest::from(Sha256::new_with_prefix(tar.unwrap_or_default()));
    match ingest(receiver, &layer, diff_id, output) {
        Ok(summary) => Ok(summary.entries),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// Parses a manifest or index, and checks what it promises of its result.
///
/// # Errors
/// The parser's.
pub fn manifest(bytes: &[u8], announced: Option<&str>) -> Result<(), ImageError> {
    match parse_document(bytes, announced, "subject")? {
        Document::Manifest(manifest) => assert!(manifest.layers.len() <= LAYERS_MAX),
        Document::Index(entries) => assert!(entries.len() <= INDEX_ENTRIES_MAX),
    }
    Ok(())
}

/// Parses an image config.
///
/// # Errors
/// The parser's.
pub fn config(bytes: &[u8]) -> Result<(), ImageError> {
    parse_config(bytes, "subject").map(drop)
}

/// Parses a registry's demand for credentials; whether it can be answered.
pub fn challenge(header: &str) -> bool {
    is_challenge(header)
}
