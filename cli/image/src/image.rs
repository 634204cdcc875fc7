//! An image in the store, and the files that make its root file system.

use std::fs::File;
use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use crate::digest::Digest;
use crate::platform::Platform;

/// An image that is whole in the store.
#[derive(Clone, Debug)]
pub struct Image {
    /// The image ID: the digest of its config.
    pub id: Digest,
    /// The digest of its manifest (not of the index it was found in).
    pub manifest: Digest,
    /// Tags in familiar form (`busybox:latest`), sorted.
    pub repo_tags: Vec<String>,
    /// Names by digest in familiar form (`busybox@sha256:…`), sorted.
    pub repo_digests: Vec<String>,
    /// The config, parsed.
    pub config: ImageConfiguration,
    /// The config as the registry sent it: JSON, with fields that `config` does not know.
    pub raw_config: String,
    /// When it was built, RFC 3339, if its config says so.
    pub created: Option<String>,
    /// Bytes of the regular files in all layers.
    pub size_bytes: u64,
    /// What it was built for.
    pub platform: Platform,
    /// Layers, lowest first, by the digest of their uncompressed tar stream.
    pub diff_ids: Vec<Digest>,
}

/// The files of one block device that holds an image's root file system, in their order.
#[derive(Debug)]
pub struct Rootfs {
    /// First the metadata image, then the layers, lowest first. A layer may come more than once.
    pub parts: Vec<RootfsPart>,
}

/// One part of the block device.
#[derive(Debug)]
pub struct RootfsPart {
    /// Where it is, for the record; `file` is what to use.
    pub path: PathBuf,
    /// Bytes, a multiple of 4096.
    pub bytes: u64,
    /// Open for reading only.
    pub file: File,
}
