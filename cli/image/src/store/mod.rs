//! The store: images by name, layers by content, all durable, one process at a time.

use std::fmt;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use crate::error::ImageError;
use crate::image::{Image, Rootfs};
use crate::platform::Platform;
use crate::pull::PullEvent;
use crate::reference::Reference;

/// What the user sets about registries.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Base addresses (`http://host:port` or `https://host`) asked before the default registry, in
    /// order, for its names only.
    pub registry_mirrors: Vec<String>,
    /// Registries, as `host[:port]` or CIDR, spoken to without TLS verification, or in plain HTTP
    /// if they have no TLS. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
}

/// User and password (or token) for one registry.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The image store; cheap to clone, shared by all requests.
#[derive(Clone, Debug)]
pub struct Store;

impl Store {
    /// Opens the store in `dir`, makes it if there is none, and removes what interrupted pulls
    /// left. Blocks shortly.
    ///
    /// # Errors
    /// `Locked` if another process has it open; else if the settings are malformed, or the
    /// directory cannot be used.
    pub fn open(_dir: &Path, _settings: Settings) -> Result<Self, ImageError> {
        todo!()
    }

    /// Pulls `reference` for `platform` (else: for this host). Once it answers, the image is
    /// durable. Dropping the future stops the pull. Events that nobody receives are dropped.
    ///
    /// # Errors
    /// Whatever [`ImageError`] lists; nothing half-written stays.
    pub async fn pull(
        &self,
        _reference: &Reference,
        _platform: Option<&Platform>,
        _auth: Option<Credentials>,
        _progress: mpsc::Sender<PullEvent>,
    ) -> Result<Image, ImageError> {
        todo!()
    }

    /// Finds an image as Docker does: by reference, digest, ID, or unique prefix of an ID.
    ///
    /// # Errors
    /// `NotFound`, or `Internal`.
    pub fn find(&self, _name_or_id: &str) -> Result<Image, ImageError> {
        todo!()
    }

    /// Lists all images, newest pull first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        todo!()
    }

    /// Opens the files that make the image's root file system.
    ///
    /// # Errors
    /// If one is missing or has another length than when it was written.
    pub fn rootfs(&self, _image: &Image) -> Result<Rootfs, ImageError> {
        todo!()
    }

    /// The EROFS image with `program` as `/sbin/<name>`; written on first use, cached by content.
    /// Blocks while it writes.
    ///
    /// # Errors
    /// If the program cannot be read or the image cannot be written.
    pub fn system_image(&self, _name: &str, _program: &Path) -> Result<PathBuf, ImageError> {
        todo!()
    }
}
