//! What the engine wants of an image store; [`husk_image::Store`] is the one there is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use husk_image::{Credentials, Image, ImageError, Platform, PullEvent, Reference, Rootfs, Store};
use tokio::sync::mpsc;

/// A pull under way.
pub type Pull<'a> = Pin<Box<dyn Future<Output = Result<Image, ImageError>> + Send + 'a>>;

/// A source of images. All but [`pull`](Self::pull) may block shortly.
pub trait ImageSource: fmt::Debug + Send + Sync {
    /// Finds an image by reference, digest, ID, or unique prefix of an ID.
    ///
    /// # Errors
    /// Of kind `NotFound`, and others.
    fn find(&self, name_or_id: &str) -> Result<Image, ImageError>;

    /// Lists all images.
    ///
    /// # Errors
    /// If they cannot be read.
    fn list(&self) -> Result<Vec<Image>, ImageError>;

    /// Opens the files that make an image's root file system.
    ///
    /// # Errors
    /// If one is missing.
    fn rootfs(&self, image: &Image) -> Result<Rootfs, ImageError>;

    /// An EROFS image with `program` as `/sbin/<name>`.
    ///
    /// # Errors
    /// If it cannot be made.
    fn system_image(&self, name: &str, program: &Path) -> Result<PathBuf, ImageError>;

    /// Pulls an image, for this host unless `platform` says otherwise.
    ///
    /// # Errors
    /// Whatever can go wrong with a registry.
    fn pull<'a>(
        &'a self,
        reference: &'a Reference,
        platform: Option<&'a Platform>,
        auth: Option<Credentials>,
        progress: mpsc::Sender<PullEvent>,
    ) -> Pull<'a>;
}

impl ImageSource for Store {
    fn find(&self, name_or_id: &str) -> Result<Image, ImageError> {
        Self::find(self, name_or_id)
    }

    fn list(&self) -> Result<Vec<Image>, ImageError> {
        Self::list(self)
    }

    fn rootfs(&self, image: &Image) -> Result<Rootfs, ImageError> {
        Self::rootfs(self, image)
    }

    fn system_image(&self, name: &str, program: &Path) -> Result<PathBuf, ImageError> {
        Self::system_image(self, name, program)
    }

    fn pull<'a>(
        &'a self,
        reference: &'a Reference,
        platform: Option<&'a Platform>,
        auth: Option<Credentials>,
        progress: mpsc::Sender<PullEvent>,
    ) -> Pull<'a> {
        Box::pin(Self::pull(self, reference, platform, auth, progress))
    }
}
