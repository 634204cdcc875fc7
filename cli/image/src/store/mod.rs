//! The store: images by name, layers by content, all durable, one process at a time.
//!
//! An image is recorded only after every file of it is durable, so what is found is whole; what an
//! interrupted pull left is either a whole layer, which the next pull uses, or removed on opening.

mod content;
mod database;
mod find;
mod system;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Semaphore, mpsc};

pub(crate) use self::content::Content;
pub(crate) use self::database::{Database, ImageRow, LayerRow, Names};
use crate::error::ImageError;
use crate::image::{Image, Rootfs};
use crate::limits::LAYERS_AT_ONCE;
use crate::platform::Platform;
use crate::pull::{self, Flights, PullEvent};
use crate::reference::Reference;
use crate::registry::Registries;

const LOCK_FILE: &str = "lock";

/// What the user sets about registries.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Base addresses (`http://host:port` or `https://host`) asked before the default registry, in
    /// order, for its names only.
    pub registry_mirrors: Vec<String>,
    /// Registries, as `host[:port]` or CIDR, spoken to without TLS verification, or in plain HTTP
    /// if they have no TLS. Loopback addresses always are. Names are not resolved to match a CIDR.
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
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) content: Content,
    pub(crate) database: Database,
    pub(crate) registries: Registries,
    /// Layers on their way in, by diffID.
    pub(crate) layer_flights: Flights,
    /// Manifests and configs on their way in, by digest.
    pub(crate) blob_flights: Flights,
    /// Metadata images being written, by key.
    pub(crate) merge_flights: Flights,
    pub(crate) layer_slots: Semaphore,
    /// Held as long as the store is open.
    _lock: File,
}

impl Inner {
    /// Reads an image's config and names.
    pub(crate) fn load(&self, row: &ImageRow) -> Result<Image, ImageError> {
        find::load(self, row)
    }
}

impl Store {
    /// Opens the store in `dir`, makes it if there is none, and removes what interrupted pulls
    /// left. Blocks shortly.
    ///
    /// # Errors
    /// `Locked` if another process has it open; else if the settings are malformed, or the
    /// directory cannot be used.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, ImageError> {
        let registries = Registries::new(settings)?;
        fs::create_dir_all(dir)
            .map_err(|error| ImageError::io(format!("making {}", dir.display()), dir, error))?;
        let lock = lock(dir)?;
        let content = Content::open(dir)?;
        let database = Database::open(dir)?;
        let inner = Inner {
            content,
            database,
            registries,
            layer_flights: Flights::default(),
            blob_flights: Flights::default(),
            merge_flights: Flights::default(),
            layer_slots: Semaphore::new(LAYERS_AT_ONCE),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Pulls `reference` for `platform` (else: for this host). Once it answers, the image is
    /// durable. Dropping the future stops the pull, unless another one wants the same layers.
    /// Events that nobody receives are dropped; a full channel holds the pull up, but for
    /// `Downloading`, which is left out.
    ///
    /// # Errors
    /// Whatever [`ImageError`] lists; nothing half-written stays.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        auth: Option<Credentials>,
        progress: mpsc::Sender<PullEvent>,
    ) -> Result<Image, ImageError> {
        pull::pull(self, reference, platform, auth, progress).await
    }

    /// Finds an image as Docker does: by reference, digest, ID, or unique prefix of an ID.
    ///
    /// # Errors
    /// `NotFound`, or `Internal`.
    pub fn find(&self, name_or_id: &str) -> Result<Image, ImageError> {
        find::find(&self.inner, name_or_id)
    }

    /// Lists all images, newest pull first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        find::list(&self.inner)
    }

    /// Opens the files that make the image's root file system.
    ///
    /// # Errors
    /// If one is missing or has another length than when it was written.
    pub fn rootfs(&self, image: &Image) -> Result<Rootfs, ImageError> {
        find::rootfs(&self.inner, image)
    }

    /// The EROFS image with `program` as `/sbin/<name>`; written on first use, cached by content.
    /// Blocks while it reads and writes.
    ///
    /// # Errors
    /// If the program cannot be read or the image cannot be written.
    pub fn system_image(&self, name: &str, program: &Path) -> Result<PathBuf, ImageError> {
        system::system_image(&self.inner.content, name, program)
    }
}

/// Takes the store for this process; the kernel gives it back however the process ends.
fn lock(dir: &Path) -> Result<File, ImageError> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| ImageError::io(format!("opening {}", path.display()), dir, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ImageError::Locked { dir: dir.to_owned() }),
        Err(error) => Err(ImageError::io(format!("locking {}", path.display()), dir, error.into())),
    }
}
