//! From a reference to a manifest and config: through indexes, by platform, verified by digest.

use std::sync::Arc;

use super::Pull;
use crate::config::{Config, parse_config};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::{CONFIG_BYTES_MAX, INDEX_DEPTH_MAX, MANIFEST_BYTES_MAX};
use crate::manifest::{Descriptor, Document, Manifest, parse_document, select};
use crate::platform::Platform;

/// What a reference stands for.
pub(super) struct Resolved {
    /// Of what the registry has under the name: an index or a manifest.
    pub(super) named_digest: Digest,
    /// Of the manifest.
    pub(super) manifest_digest: Digest,
    /// The manifest.
    pub(super) manifest: Manifest,
    /// Index and manifest as they came, to be kept.
    pub(super) documents: Vec<(Digest, Vec<u8>)>,
}

/// Whether a blob is fetched as a manifest or as a blob.
#[derive(Clone, Copy)]
enum Kind {
    Manifest,
    Config,
}

pub(super) async fn resolve(pull: &Pull<'_>) -> Result<Resolved, ImageError> {
    let subject = &pull.session.subject;
    let wanted = pull.reference.digest();
    let name = match (wanted, pull.reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let fetched = pull.session.manifest(&name).await?;
    let named_digest = Digest::of(&fetched.bytes);
    if let Some(wanted) = wanted.or(fetched.announced_digest)
        && wanted != named_digest
    {
        return Err(ImageError::corrupt(
            format!("manifest of {subject}"),
            format!(
                "wrong digest: expected {wanted}, registry {} sent {named_digest}",
                pull.session.authority()
            ),
        ));
    }
    let mut document = parse_document(&fetched.bytes, fetched.media_type.as_deref(), subject)?;
    let documents = vec![(named_digest, fetched.bytes)];
    let mut manifest_digest = named_digest;
    for _ in 0..=INDEX_DEPTH_MAX {
        let entries = match document {
            Document::Manifest(manifest) => {
                return Ok(Resolved { named_digest, manifest_digest, manifest, documents });
            }
            Document::Index(entries) => entries,
        };
        let platform = pull.platform.cloned().unwrap_or_else(Platform::host);
        let entry = select(&entries, &platform).ok_or_else(|| {
            ImageError::PlatformMismatch(format!(
                "no matching manifest for {platform} in the manifest list entries of {subject}"
            ))
        })?;
        manifest_digest = entry.descriptor.digest;
        let bytes = fetch(pull, &entry.descriptor, Kind::Manifest).await?;
        document = parse_document(&bytes, None, subject)?;
    }
    let problem = format!("indexes more than {INDEX_DEPTH_MAX} deep");
    Err(ImageError::too_large(format!("manifest of {subject}"), problem))
}

/// Fetches the config and checks that it fits.
pub(super) async fn config(pull: &Pull<'_>, resolved: &Resolved) -> Result<Config, ImageError> {
    let bytes = fetch(pull, &resolved.manifest.config, Kind::Config).await?;
    let config = parse_config(&bytes, &pull.session.subject)?;
    pull.check_config(&config, resolved)?;
    Ok(config)
}

/// A small blob by descriptor, from the store if it is there, else once for all pulls.
async fn fetch(
    pull: &Pull<'_>,
    descriptor: &Descriptor,
    kind: Kind,
) -> Result<Vec<u8>, ImageError> {
    let digest = descriptor.digest;
    if let Some(bytes) = pull.inner.content.read_blob(digest)? {
        return Ok(bytes);
    }
    let flight = pull.inner.blob_flights.join(digest, |_| {
        let (inner, session) = (Arc::clone(pull.inner), Arc::clone(&pull.session));
        let descriptor = descriptor.clone();
        async move {
            if inner.content.read_blob(digest)?.is_some() {
                return Ok(());
            }
            let (what, limit) = match kind {
                Kind::Manifest => ("manifest", MANIFEST_BYTES_MAX),
                Kind::Config => ("config", CONFIG_BYTES_MAX),
            };
            let about = format!("{what} of {}", session.subject);
            if descriptor.size > limit {
                let problem = format!("{} bytes, over the limit of {limit}", descriptor.size);
                return Err(ImageError::too_large(about, problem));
            }
            let fetched = match kind {
                Kind::Manifest => session.manifest(&digest.to_string()).await?,
                Kind::Config => session.small_blob(digest, what, limit).await?,
            };
            let found = Digest::of(&fetched.bytes);
            if found != digest {
                let problem = format!(
                    "wrong digest: expected {digest}, registry {} sent {found}",
                    session.authority()
                );
                return Err(ImageError::corrupt(about, problem));
            }
            if u64::try_from(fetched.bytes.len()) != Ok(descriptor.size) {
                let (found, size) = (fetched.bytes.len(), descriptor.size);
                let problem = format!("wrong size: {found} bytes, its descriptor says {size}");
                return Err(ImageError::corrupt(about, problem));
            }
            super::blocking(move || inner.content.write_blob(digest, &fetched.bytes)).await
        }
    });
    flight.landed(|_| {}).await?;
    pull.inner.content.read_blob(digest)?.ok_or_else(|| {
        ImageError::Internal(format!("{digest} was written and is not there; try again"))
    })
}
