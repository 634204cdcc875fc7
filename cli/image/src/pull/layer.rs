//! One layer: fetched, converted and durable, once for all pulls that want it.

use std::error::Error as _;
use std::fs;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::blocking;
use super::flight::{Pilot, Ticket};
use crate::digest::Digest;
use crate::error::{ImageError, is_full};
use crate::ingest::{IngestError, ingest};
use crate::layer::LayerError;
use crate::manifest::LayerDescriptor;
use crate::registry::{Session, copy_blob};
use crate::store::{Content, Inner, LayerRow};

/// Network chunks between the executor and the decoder; hyper's are up to some 400 KiB.
const CHUNKS_QUEUED: usize = 8;

/// Whether the layer is whole in the store.
pub(super) fn exists(inner: &Inner, diff_id: Digest) -> Result<bool, ImageError> {
    let Some(row) = inner.database.layer(diff_id)? else { return Ok(false) };
    let found = fs::metadata(inner.content.layer_path(diff_id));
    Ok(found.is_ok_and(|metadata| metadata.len() == row.image_bytes))
}

/// Starts fetching the layer, or joins whoever did.
pub(super) fn fetch(
    inner: &Arc<Inner>,
    session: &Arc<Session>,
    layer: &LayerDescriptor,
    diff_id: Digest,
) -> Ticket {
    inner.layer_flights.join(diff_id, |pilot| {
        let (inner, session) = (Arc::clone(inner), Arc::clone(session));
        let layer = layer.clone();
        async move {
            let _slot = inner
                .layer_slots
                .acquire()
                .await
                .map_err(|_| ImageError::Internal("the store was closed".to_owned()))?;
            if exists(&inner, diff_id)? {
                return Ok(());
            }
            fetch_now(&inner, &session, &layer, diff_id, &pilot).await
        }
    })
}

async fn fetch_now(
    inner: &Arc<Inner>,
    session: &Arc<Session>,
    layer: &LayerDescriptor,
    diff_id: Digest,
    pilot: &Pilot,
) -> Result<(), ImageError> {
    let (sink, blob) = mpsc::channel(CHUNKS_QUEUED);
    let convert = {
        let (inner, layer) = (Arc::clone(inner), layer.clone());
        let subject = format!("layer {} of {}", layer.descriptor.digest, session.subject);
        let pilot = pilot.clone();
        // The file is this closure's: however the pull ends, it goes.
        blocking(move || {
            let converted = convert(&inner, blob, &layer, diff_id, &subject);
            drop(pilot);
            converted
        })
    };
    let copy = async {
        let told = |bytes| pilot.received(bytes);
        let copied = copy_blob(session, &layer.descriptor, &sink, told).await;
        drop(sink);
        copied
    };
    let (copied, converted) = tokio::join!(copy, convert);
    match (copied, converted) {
        // The decoder saw the stream end; the copy knows why.
        (Err(error), Ok(None) | Err(_)) => Err(error),
        (_, Err(error)) => Err(error),
        (_, Ok(Some(()))) => Ok(()),
        (Ok(()), Ok(None)) => Err(ImageError::Internal("the layer's stream was cut".to_owned())),
    }
}

/// Converts and commits. None: the stream ended early, and who fed it knows why.
fn convert(
    inner: &Inner,
    blob: mpsc::Receiver<bytes::Bytes>,
    layer: &LayerDescriptor,
    diff_id: Digest,
    subject: &str,
) -> Result<Option<()>, ImageError> {
    let content = &inner.content;
    let file = content.create()?;
    let summary = match ingest(blob, layer, diff_id, file.as_file()) {
        Ok(summary) => summary,
        Err(IngestError::SourceEnded) => return Ok(None),
        Err(IngestError::Content(kind, problem)) => {
            return Err(ImageError::Content { subject: subject.to_owned(), problem, kind });
        }
        Err(IngestError::Write(error)) => {
            return Err(ImageError::io(format!("writing {subject}"), content.dir(), error));
        }
        Err(IngestError::Thread(error)) => {
            return Err(ImageError::io("starting a thread", content.dir(), error));
        }
        Err(IngestError::Layer(error)) => {
            return Err(layer_failure(content, &format!("converting {subject}"), &error));
        }
    };
    content.commit(file, &content.layer_path(diff_id))?;
    let row = LayerRow { image_bytes: summary.image_bytes, content_bytes: summary.content_bytes };
    inner.database.add_layer(diff_id, row)?;
    Ok(Some(()))
}

/// A failure of the EROFS writer: a full disk, another I/O error, or a stream that is no layer.
pub(crate) fn layer_failure(content: &Content, attempt: &str, error: &LayerError) -> ImageError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(io_error) = inner.downcast_ref::<io::Error>()
            && is_full(io_error)
        {
            let full = io::Error::from(io_error.kind());
            return ImageError::io(attempt, content.dir(), full);
        }
        cause = inner.source();
    }
    let is_ours = matches!(error, LayerError::Write(_));
    let mut problem = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        problem.push_str(": ");
        problem.push_str(&inner.to_string());
        cause = inner.source();
    }
    if is_ours {
        return ImageError::Internal(format!("failed {attempt}: {problem}"));
    }
    ImageError::corrupt(format!("failed {attempt}"), problem)
}
