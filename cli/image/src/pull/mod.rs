//! Pulling: from a reference to an image that is whole and durable in the store.
//!
//! Order: manifest, config, layers (in parallel), metadata image, then the record in the database.
//! Each is durable before the next one refers to it.

mod event;
mod flight;
mod layer;
mod merge;
mod report;
mod resolve;

use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task;

pub use self::event::{LayerProgress, PullEvent};
pub(crate) use self::flight::Flights;
use self::flight::Settling;
pub(crate) use self::layer::layer_failure;
use self::report::Reporter;
use self::resolve::{Resolved, resolve};
use crate::config::Config;
use crate::digest::Digest;
use crate::error::{ErrorKind, ImageError};
use crate::image::Image;
use crate::manifest::LayerDescriptor;
use crate::platform::Platform;
use crate::reference::{DEFAULT_REGISTRY, Reference};
use crate::registry::Session;
use crate::store::{Credentials, ImageRow, Inner, Names, Store};

/// What one pull has at hand.
pub(crate) struct Pull<'a> {
    inner: &'a Arc<Inner>,
    session: Arc<Session>,
    reference: &'a Reference,
    platform: Option<&'a Platform>,
    reporter: Reporter,
    /// Layers begun; on failure they are waited for, so that nothing half-written stays.
    settling: Mutex<Vec<Settling>>,
}

/// Asks the mirrors, then the registry, until one has the image.
pub(crate) async fn pull(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
    auth: Option<Credentials>,
    progress: mpsc::Sender<PullEvent>,
) -> Result<Image, ImageError> {
    let inner = &store.inner;
    let mut failure: Option<ImageError> = None;
    for endpoint in inner.registries.endpoints(reference)? {
        let session = Arc::new(Session::new(endpoint, reference, auth.clone()));
        let reporter = Reporter::new(progress.clone());
        let settling = Mutex::default();
        let pull = Pull { inner, session, reference, platform, reporter, settling };
        match pull.run().await {
            Ok(image) => return Ok(image),
            Err(error) if !is_of_one_registry(&error) => return Err(error),
            Err(error) => {
                tracing::debug!(
                    registry = pull.session.authority(),
                    error = error.report(),
                    "pull"
                );
                failure = Some(match failure {
                    Some(former) => more_telling(former, error),
                    None => error,
                });
            }
        }
    }
    Err(failure.expect("a reference has at least one endpoint"))
}

/// Whether another registry may do better.
fn is_of_one_registry(error: &ImageError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::Unauthorized
            | ErrorKind::Unavailable
            | ErrorKind::Corrupt
            | ErrorKind::TooLarge
    )
}

/// A mirror that answered tells more than a registry that cannot be reached.
fn more_telling(mirror: ImageError, registry: ImageError) -> ImageError {
    if registry.kind() != ErrorKind::Unavailable || mirror.kind() == ErrorKind::Unavailable {
        return registry;
    }
    match mirror {
        ImageError::Registry { message, kind } => {
            ImageError::Registry { message: format!("{message}; {registry}"), kind }
        }
        other => other,
    }
}

impl Pull<'_> {
    async fn run(&self) -> Result<Image, ImageError> {
        let resolved = resolve(self).await?;
        self.reporter.send(self.started(&resolved)).await;
        let config = resolve::config(self, &resolved).await?;
        let layers = resolved.manifest.layers.iter().zip(&config.diff_ids);
        let fetched =
            try_join_all(layers.map(|(layer, diff_id)| self.layer(layer, *diff_id))).await;
        if let Err(error) = fetched {
            self.settle().await;
            return Err(error);
        }
        let (metadata_key, metadata_bytes) = merge::merge(self.inner, &config.diff_ids).await?;
        let row = ImageRow {
            id: resolved.manifest.config.digest,
            manifest: resolved.manifest_digest,
            metadata_key,
            metadata_bytes,
        };
        let (image, newer) = self.record(row, &resolved).await?;
        self.reporter.send(PullEvent::Digest(resolved.named_digest)).await;
        let reference = self.reference.clone();
        self.reporter.send(PullEvent::Finished { reference, newer }).await;
        Ok(image)
    }

    fn started(&self, resolved: &Resolved) -> PullEvent {
        let repository = match self.reference.registry() {
            DEFAULT_REGISTRY => self.reference.repository().to_owned(),
            _ => self.reference.name(),
        };
        let tag = match (self.reference.digest(), self.reference.tag()) {
            (None, Some(tag)) => tag.to_owned(),
            _ => resolved.named_digest.to_string(),
        };
        PullEvent::Started { repository, tag }
    }

    async fn layer(&self, layer: &LayerDescriptor, diff_id: Digest) -> Result<(), ImageError> {
        let progress = self.reporter.layer(layer.descriptor.digest, layer.descriptor.size);
        if layer::exists(self.inner, diff_id)? {
            progress.send(LayerProgress::Exists).await;
            return Ok(());
        }
        progress.send(LayerProgress::Waiting).await;
        let flight = layer::fetch(self.inner, &self.session, layer, diff_id);
        let mut throttle = progress.throttle();
        self.settling.lock().expect("no panic while held").push(flight.settling());
        flight.landed(|bytes| throttle.bytes(bytes)).await?;
        progress.send(LayerProgress::Downloaded).await;
        progress.send(LayerProgress::Complete).await;
        Ok(())
    }

    async fn settle(&self) {
        let settling = std::mem::take(&mut *self.settling.lock().expect("no panic while held"));
        for layer in settling {
            layer.settled().await;
        }
    }

    /// Writes the record; after this the image is there.
    async fn record(
        &self,
        row: ImageRow,
        resolved: &Resolved,
    ) -> Result<(Image, bool), ImageError> {
        let by_digest = self.reference.with_digest(resolved.named_digest);
        let mut names = Names { tags: Vec::new(), digests: vec![by_digest.to_string()] };
        // As in Docker, a tag beside a digest is not made.
        if self.reference.digest().is_none() {
            names.tags.push(self.reference.to_string());
        }
        let inner = Arc::clone(self.inner);
        let documents = resolved.documents.clone();
        blocking(move || {
            for (digest, bytes) in &documents {
                inner.content.write_blob(*digest, bytes)?;
            }
            let newer = inner.database.add_image(&row, &names)?;
            Ok((inner.load(&row)?, newer))
        })
        .await
    }

    fn check_config(&self, config: &Config, resolved: &Resolved) -> Result<(), ImageError> {
        let subject = &self.session.subject;
        let (layers, diff_ids) = (resolved.manifest.layers.len(), config.diff_ids.len());
        if layers != diff_ids {
            return Err(ImageError::corrupt(
                format!("config of {subject}"),
                format!("it has {diff_ids} diffIDs for {layers} layers"),
            ));
        }
        if config.platform.os != "linux" {
            return Err(ImageError::PlatformMismatch(format!(
                "image {subject} is for {}; Husk runs Linux images only",
                config.platform
            )));
        }
        match self.platform {
            Some(wanted) if !wanted.accepts(&config.platform) => {
                Err(ImageError::PlatformMismatch(format!(
                    "image with reference {subject} was found but does not match the specified \
                     platform: wanted {wanted}, actual: {}",
                    config.platform
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Runs something that blocks beside the executor's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(ImageError::Internal(format!("the pull ended: {error}"))))
}
