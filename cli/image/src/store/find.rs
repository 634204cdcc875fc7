//! From a name or an ID to an image, and from an image to its files.

use std::fs::File;
use std::path::PathBuf;

use super::{ImageRow, Inner};
use crate::config::parse_config;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{Image, Rootfs, RootfsPart};
use crate::reference::Reference;

pub(super) fn find(inner: &Inner, name_or_id: &str) -> Result<Image, ImageError> {
    let row = row_of(inner, name_or_id)?;
    load(inner, &row.ok_or_else(|| no_such_image(name_or_id))?)
}

pub(super) fn list(inner: &Inner) -> Result<Vec<Image>, ImageError> {
    inner.database.all_images()?.iter().map(|row| load(inner, row)).collect()
}

/// A name goes before a prefix of an ID, as in Docker: `cafe` may be either.
fn row_of(inner: &Inner, name_or_id: &str) -> Result<Option<ImageRow>, ImageError> {
    if let Ok(reference) = name_or_id.parse::<Reference>() {
        // With a digest the tag says nothing.
        let name = match reference.digest() {
            Some(digest) => reference.with_digest(digest).to_string(),
            None => reference.to_string(),
        };
        if let Some(row) = inner.database.image_named(&name)? {
            return Ok(Some(row));
        }
    }
    let digits = name_or_id.strip_prefix("sha256:").unwrap_or(name_or_id);
    let is_prefix = (1..=64).contains(&digits.len())
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_prefix {
        return Ok(None);
    }
    let rows = inner.database.images_by_prefix(digits)?;
    Ok(if let [row] = rows.as_slice() { Some(*row) } else { None })
}

fn no_such_image(name_or_id: &str) -> ImageError {
    let name = match name_or_id.parse::<Reference>() {
        Ok(reference) => reference.familiar(),
        Err(_) => name_or_id.chars().take(200).collect(),
    };
    ImageError::NoSuchImage { name }
}

/// Reads an image's config and names.
pub(super) fn load(inner: &Inner, row: &ImageRow) -> Result<Image, ImageError> {
    let bytes = inner.content.read_blob(row.id)?.ok_or_else(|| {
        let path = inner.content.blob_path(row.id);
        damaged(row.id, &format!("its config {} is missing or changed", path.display()))
    })?;
    let config = parse_config(&bytes, &row.id.to_string())?;
    let names = inner.database.names(row.id)?;
    let familiar = |names: Vec<String>| {
        names.iter().filter_map(|name| Some(name.parse::<Reference>().ok()?.familiar())).collect()
    };
    let mut size_bytes = 0;
    for diff_id in &config.diff_ids {
        size_bytes += inner.database.layer(*diff_id)?.map_or(0, |layer| layer.content_bytes);
    }
    Ok(Image {
        id: row.id,
        manifest: row.manifest,
        repo_tags: familiar(names.tags),
        repo_digests: familiar(names.digests),
        created: config.parsed.created().clone(),
        config: config.parsed,
        raw_config: String::from_utf8_lossy(&bytes).into_owned(),
        size_bytes,
        platform: config.platform,
        diff_ids: config.diff_ids,
    })
}

pub(super) fn rootfs(inner: &Inner, image: &Image) -> Result<Rootfs, ImageError> {
    let rows = inner.database.images_by_prefix(&image.id.hex())?;
    let row = rows.first().ok_or_else(|| no_such_image(&image.id.to_string()))?;
    let part = |path: PathBuf, bytes: u64| -> Result<RootfsPart, ImageError> {
        let open = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (found, file) = open.map_err(|error| inner.content.failed("opening", &path, error))?;
        if found != bytes {
            let problem = format!("{} has {found} bytes instead of {bytes}", path.display());
            return Err(damaged(image.id, &problem));
        }
        Ok(RootfsPart { path, bytes, file })
    };
    let mut parts = vec![part(inner.content.metadata_path(row.metadata_key), row.metadata_bytes)?];
    for diff_id in &image.diff_ids {
        let layer = inner.database.layer(*diff_id)?;
        let layer = layer.ok_or_else(|| damaged(image.id, "a layer is missing"))?;
        parts.push(part(inner.content.layer_path(*diff_id), layer.image_bytes)?);
    }
    Ok(Rootfs { parts })
}

fn damaged(id: Digest, problem: &str) -> ImageError {
    ImageError::corrupt(format!("image {}", id.short()), format!("{problem}; pull it again"))
}
