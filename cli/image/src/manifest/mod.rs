//! Manifests and indexes: OCI image-spec and Docker schema 2. Pure; the bytes are hostile.

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::{INDEX_ENTRIES_MAX, LAYER_BYTES_MAX, LAYERS_MAX, PLATFORM_CHARS_MAX};
use crate::platform::Platform;

/// What is asked for, best first.
pub(crate) const ACCEPTED_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const SCHEMA_1_TYPES: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// Content by digest and length (image-spec, descriptor.md).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Descriptor {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its length in bytes.
    pub(crate) size: u64,
}

/// How a layer's tar stream is packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
}

/// A layer in a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LayerDescriptor {
    /// Of the packed bytes.
    pub(crate) descriptor: Descriptor,
    /// By its media type.
    pub(crate) compression: Compression,
}

/// An image manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Manifest {
    /// The image config.
    pub(crate) config: Descriptor,
    /// Lowest first.
    pub(crate) layers: Vec<LayerDescriptor>,
}

/// One image or index in an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct IndexEntry {
    /// Of the manifest.
    pub(crate) descriptor: Descriptor,
    /// What it is for; none for a nested index, often.
    pub(crate) platform: Option<Platform>,
    /// An index rather than a manifest.
    pub(crate) is_index: bool,
}

/// What a name in a registry may stand for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several, by platform.
    Index(Vec<IndexEntry>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Parses a manifest or index. `subject` is its name for messages; `announced` the `Content-Type`
/// it came with, which counts if it names no media type itself.
pub(crate) fn parse_document(
    bytes: &[u8],
    announced: Option<&str>,
    subject: &str,
) -> Result<Document, ImageError> {
    let about = || format!("manifest of {subject}");
    let malformed =
        |error: serde_json::Error| ImageError::corrupt(about(), format!("not a manifest: {error}"));
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(malformed)?;
    let announced = announced.map(|header| header.split(';').next().unwrap_or(header).trim());
    let media_type = raw.media_type.as_deref().or(announced).unwrap_or_default();
    if raw.schema_version == 1 || SCHEMA_1_TYPES.contains(&media_type) {
        return Err(ImageError::unsupported(
            about(),
            "schema 1 is no longer supported; push the image again with a current client",
        ));
    }
    if raw.schema_version != 2 {
        let problem = format!("schema version {} is unknown", raw.schema_version);
        return Err(ImageError::unsupported(about(), problem));
    }
    // A document that can be read both ways may be shown to two readers as two images.
    let (is_manifest, is_index) = (raw.layers.is_some(), raw.manifests.is_some());
    if is_manifest && is_index {
        return Err(ImageError::corrupt(about(), "both a manifest and an index"));
    }
    if INDEX_TYPES.contains(&media_type) || (is_index && !MANIFEST_TYPES.contains(&media_type)) {
        let entries = raw
            .manifests
            .ok_or_else(|| ImageError::corrupt(about(), "an index without entries"))?;
        return index(entries, &about()).map(Document::Index);
    }
    match (raw.config, raw.layers) {
        (Some(config), Some(layers)) => {
            manifest(&config, &layers, &about()).map(Document::Manifest)
        }
        _ => Err(ImageError::unsupported(
            about(),
            format!("media type \"{}\" is not that of an image", shown(media_type)),
        )),
    }
}

fn index(entries: Vec<RawDescriptor>, about: &str) -> Result<Vec<IndexEntry>, ImageError> {
    if entries.len() > INDEX_ENTRIES_MAX {
        let problem = format!("{} entries, over the limit of {INDEX_ENTRIES_MAX}", entries.len());
        return Err(ImageError::too_large(about, problem));
    }
    let mut found = Vec::new();
    for entry in entries {
        let is_index = INDEX_TYPES.contains(&entry.media_type.as_str());
        if !is_index && !MANIFEST_TYPES.contains(&entry.media_type.as_str()) {
            continue;
        }
        let descriptor = checked(&entry, about)?;
        let platform = entry.platform.filter(|platform| {
            let parts = [&platform.os, &platform.architecture];
            parts.iter().all(|part| part.len() <= PLATFORM_CHARS_MAX)
                && platform.variant.as_ref().is_none_or(|part| part.len() <= PLATFORM_CHARS_MAX)
        });
        let platform = platform.map(|platform| {
            let variant = platform.variant.unwrap_or_default();
            Platform::new(&platform.os, &platform.architecture, &variant)
        });
        found.push(IndexEntry { descriptor, platform, is_index });
    }
    Ok(found)
}

fn manifest(
    config: &RawDescriptor,
    layers: &[RawDescriptor],
    about: &str,
) -> Result<Manifest, ImageError> {
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        let problem = format!("config of type \"{}\": not an image", shown(&config.media_type));
        return Err(ImageError::unsupported(about, problem));
    }
    if layers.len() > LAYERS_MAX {
        let problem = format!("{} layers, over the limit of {LAYERS_MAX}", layers.len());
        return Err(ImageError::too_large(about, problem));
    }
    let layers = layers
        .iter()
        .map(|layer| {
            let compression = compression_of(&layer.media_type, about)?;
            let descriptor = checked(layer, about)?;
            if descriptor.size > LAYER_BYTES_MAX {
                let problem = format!("layer {} of {} bytes", descriptor.digest, descriptor.size);
                return Err(ImageError::too_large(about, problem));
            }
            Ok(LayerDescriptor { descriptor, compression })
        })
        .collect::<Result<_, _>>()?;
    Ok(Manifest { config: checked(config, about)?, layers })
}

fn checked(raw: &RawDescriptor, about: &str) -> Result<Descriptor, ImageError> {
    let digest = raw.digest.parse().map_err(|error| {
        ImageError::corrupt(about, format!("digest \"{}\": {error}", shown(&raw.digest)))
    })?;
    Ok(Descriptor { digest, size: raw.size })
}

/// Layer media types of image-spec (layer.md) and Docker's schema 2.
fn compression_of(media_type: &str, about: &str) -> Result<Compression, ImageError> {
    if media_type.contains("foreign") || media_type.contains("nondistributable") {
        let problem = format!("layer of type \"{}\" is not in the registry", shown(media_type));
        return Err(ImageError::unsupported(about, problem));
    }
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        other => Err(ImageError::unsupported(
            about,
            format!("layer of unknown type \"{}\"", shown(other)),
        )),
    }
}

/// A stranger's text in a message.
fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
}

/// Chooses from an index what serves `wanted` best: an exact match before an older variant, the
/// first before later ones. Attestations (`unknown/unknown`) serve nobody.
pub(crate) fn select<'a>(entries: &'a [IndexEntry], wanted: &Platform) -> Option<&'a IndexEntry> {
    entries
        .iter()
        .filter_map(|entry| Some((wanted.distance_to(entry.platform.as_ref()?)?, entry)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, entry)| entry)
        // An index in the index often says nothing of platforms.
        .or_else(|| entries.iter().find(|entry| entry.is_index && entry.platform.is_none()))
}

#[cfg(test)]
mod tests;
