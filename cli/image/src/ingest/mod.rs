//! A layer on its way in: one pass from compressed bytes to an EROFS image.
//!
//! ```text
//! channel ─▶ source (sha-256 of the blob) ─▶ decode ─┬─▶ sha-256 of the tar (diffID)
//!            └──────── decoder thread ────────────┘  └─▶ layer::convert ─▶ file
//! ```
//! Three threads, bounded channels between them; nothing is ever held whole.

mod chunk;
mod decode;
mod source;

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::sync_channel;
use std::thread;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use self::chunk::{CHUNKS_QUEUED, Fanout, TarReader};
use self::decode::{DecodeFailure, decode};
use self::source::Source;
use crate::digest::Digest;
use crate::error::{ErrorKind, is_full};
use crate::layer::{self, LayerError, LayerSummary};
use crate::manifest::LayerDescriptor;

/// How a layer failed.
#[derive(Debug)]
pub(crate) enum IngestError {
    /// Content that is wrong: what is, and the kind.
    Content(ErrorKind, String),
    /// The bytes stopped coming; who sends them knows why.
    SourceEnded,
    /// The file could not be written.
    Write(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
    /// The stream is no layer.
    Layer(LayerError),
}

/// Converts the blob that comes through `blob` into an EROFS image in `output`, and proves that it
/// was the one `layer` describes and that its tar stream has the digest `diff_id`. Blocks.
pub(crate) fn ingest(
    blob: mpsc::Receiver<Bytes>,
    layer: &LayerDescriptor,
    diff_id: Digest,
    output: &File,
) -> Result<LayerSummary, IngestError> {
    let (to_hash, hashed) = sync_channel(CHUNKS_QUEUED);
    let (to_convert, converted) = sync_channel(CHUNKS_QUEUED);
    thread::scope(|scope| {
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        let hasher = spawn("layer-hash").spawn_scoped(scope, move || {
            let mut hasher = Sha256::new();
            for chunk in hashed {
                let chunk: Bytes = chunk;
                hasher.update(&chunk);
            }
            Digest::from(hasher)
        });
        let hasher = hasher.map_err(IngestError::Thread)?;
        let decoder = spawn("layer-decode").spawn_scoped(scope, move || {
            let mut source = Source::new(blob, &layer.descriptor);
            let mut fanout = Fanout::new(to_hash, to_convert);
            let decoded = decode(&mut source, layer.compression, &mut fanout);
            conclude(decoded, source, fanout)
        });
        let decoder = decoder.map_err(IngestError::Thread)?;
        let converted = convert(TarReader::new(converted), output);
        let decoded = decoder.join().expect("the decoder does not panic");
        let hash = hasher.join().expect("the hasher does not panic");
        match (decoded, converted) {
            // What was received outranks what was made of it.
            (Err(DecodeFailure::Content(kind, problem)), _) => {
                Err(IngestError::Content(kind, problem))
            }
            (_, Err(error)) if is_write_failure(&error) => Err(error),
            (Err(DecodeFailure::SourceEnded), _) => Err(IngestError::SourceEnded),
            (_, Err(error)) => Err(error),
            (Err(DecodeFailure::Refused), Ok(_)) => Err(IngestError::SourceEnded),
            (Ok(()), Ok(_)) if hash != diff_id => Err(IngestError::Content(
                ErrorKind::Corrupt,
                format!("wrong digest of its content: its config says {diff_id}, it is {hash}"),
            )),
            (Ok(()), Ok(summary)) => Ok(summary),
        }
    })
}

/// Reads what is left of the blob, so that a wrong digest is known as the cause of what followed.
fn conclude(
    decoded: Result<(), DecodeFailure>,
    source: Source,
    mut fanout: Fanout,
) -> Result<(), DecodeFailure> {
    if matches!(decoded, Err(DecodeFailure::Refused | DecodeFailure::SourceEnded))
        || matches!(decoded, Err(DecodeFailure::Content(ErrorKind::TooLarge, _)))
    {
        return decoded;
    }
    source.finish()?;
    decoded?;
    fanout.end()
}

/// Converts, and then reads on to the end of the stream: tar ends before its padding does, and a
/// failure may be explained by what comes later.
fn convert(mut tar: TarReader, output: &File) -> Result<LayerSummary, IngestError> {
    let result = layer::convert(&mut tar, output);
    if let Err(error) = &result
        && let Some(error) = write_failure(error)
    {
        return Err(IngestError::Write(error));
    }
    let mut rest = vec![0; 64 << 10];
    while tar.read(&mut rest).is_ok_and(|count| count > 0) {}
    result.map_err(IngestError::Layer)
}

fn is_write_failure(error: &IngestError) -> bool {
    matches!(error, IngestError::Write(_))
}

/// The full disk behind a failed conversion, if that is what it was.
fn write_failure(error: &LayerError) -> Option<io::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>()
            && is_full(error)
        {
            return Some(io::Error::new(error.kind(), error.to_string()));
        }
        cause = inner.source();
    }
    None
}
