//! The metadata image over an image's layers, written once per stack of layers.

use std::fs::{self, File};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::blocking;
use super::layer::layer_failure;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::layer;
use crate::store::Inner;

/// Changes whenever [`layer::merge`] would write something else for the same layers.
const LAYOUT: u32 = 1;

/// Merges the layers, unless that has been done; gives the key and length of the file.
pub(super) async fn merge(
    inner: &Arc<Inner>,
    diff_ids: &[Digest],
) -> Result<(Digest, u64), ImageError> {
    let key = key_of(diff_ids);
    let flight = inner.merge_flights.join(key, |_| {
        let (inner, diff_ids) = (Arc::clone(inner), diff_ids.to_vec());
        blocking(move || write(&inner, key, &diff_ids))
    });
    flight.landed(|_| {}).await?;
    let path = inner.content.metadata_path(key);
    let metadata = fs::metadata(&path);
    let metadata = metadata.map_err(|error| inner.content.failed("reading", &path, error))?;
    Ok((key, metadata.len()))
}

fn key_of(diff_ids: &[Digest]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(LAYOUT.to_le_bytes());
    for diff_id in diff_ids {
        hasher.update(diff_id.to_string());
    }
    Digest::from(hasher)
}

fn write(inner: &Inner, key: Digest, diff_ids: &[Digest]) -> Result<(), ImageError> {
    let content = &inner.content;
    let path = content.metadata_path(key);
    if path.exists() {
        return Ok(());
    }
    let layers = diff_ids
        .iter()
        .map(|diff_id| {
            let path = content.layer_path(*diff_id);
            File::open(&path).map_err(|error| content.failed("opening", &path, error))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let file = content.create()?;
    layer::merge(&layers, file.as_file())
        .map_err(|error| layer_failure(content, "merging the layers", &error))?;
    content.commit(file, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_layers_makes_the_key() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_ne!(key_of(&[a, b]), key_of(&[b, a]));
        assert_ne!(key_of(&[a]), key_of(&[a, a]));
    }
}
