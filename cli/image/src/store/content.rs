//! The store's files. Each is written aside, fsynced, and renamed to its name, which is a digest.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::digest::Digest;
use crate::error::ImageError;

const INGEST: &str = "ingest";
const BLOBS: &str = "blobs/sha256";
const LAYERS: &str = "layers";
const IMAGES: &str = "images";
const SYSTEM: &str = "system";

/// The directory tree.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    dir: PathBuf,
}

impl Content {
    /// Makes the tree where it is missing and removes what interrupted writers left.
    pub(crate) fn open(dir: &Path) -> Result<Self, ImageError> {
        let content = Self { dir: dir.to_owned() };
        for name in [INGEST, BLOBS, LAYERS, IMAGES, SYSTEM] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(|error| content.failed("making", &path, error))?;
        }
        let ingest = dir.join(INGEST);
        let leftovers = fs::read_dir(&ingest);
        for entry in leftovers.map_err(|error| content.failed("reading", &ingest, error))? {
            let path = entry.map_err(|error| content.failed("reading", &ingest, error))?.path();
            fs::remove_file(&path).map_err(|error| content.failed("removing", &path, error))?;
        }
        Ok(content)
    }

    /// The store's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A config or manifest.
    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.dir.join(BLOBS).join(digest.hex())
    }

    /// A layer, by diffID.
    pub(crate) fn layer_path(&self, diff_id: Digest) -> PathBuf {
        self.dir.join(LAYERS).join(format!("{}.erofs", diff_id.hex()))
    }

    /// What merges an image's layers.
    pub(crate) fn metadata_path(&self, key: Digest) -> PathBuf {
        self.dir.join(IMAGES).join(format!("{}.meta.erofs", key.hex()))
    }

    /// A system image.
    pub(crate) fn system_path(&self, name: &str, key: Digest) -> PathBuf {
        self.dir.join(SYSTEM).join(format!("{name}-{}.erofs", key.hex()))
    }

    /// A file that is gone when dropped, unless committed.
    pub(crate) fn create(&self) -> Result<NamedTempFile, ImageError> {
        let ingest = self.dir.join(INGEST);
        tempfile::Builder::new()
            .tempfile_in(&ingest)
            .map_err(|error| self.failed("writing in", &ingest, error))
    }

    /// Makes a file durable under its name.
    pub(crate) fn commit(&self, file: NamedTempFile, path: &Path) -> Result<(), ImageError> {
        let failed = |error| self.failed("writing", path, error);
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        let parent = path.parent().expect("every file is in a directory of the store");
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
    }

    /// Writes a small blob, unless it is there.
    pub(crate) fn write_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), ImageError> {
        let path = self.blob_path(digest);
        if self.read_blob(digest)?.is_some() {
            return Ok(());
        }
        let mut file = self.create()?;
        file.write_all(bytes).map_err(|error| self.failed("writing", &path, error))?;
        self.commit(file, &path)
    }

    /// Reads a small blob; none if it is missing or is not what its name says.
    pub(crate) fn read_blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, ImageError> {
        let path = self.blob_path(digest);
        match fs::read(&path) {
            Ok(bytes) => Ok((Digest::of(&bytes) == digest).then_some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("reading", &path, error)),
        }
    }

    /// An I/O error on a file of the store.
    pub(crate) fn failed(&self, verb: &str, path: &Path, error: io::Error) -> ImageError {
        ImageError::io(format!("{verb} {}", path.display()), &self.dir, error)
    }
}
