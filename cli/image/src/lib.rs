//! Images: references, registry client, content store, and layers as EROFS.
//!
//! Knows nothing of microVMs or networks. [`Store`] is the way in.

#![forbid(unsafe_code)]

mod config;
mod digest;
pub mod erofs;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod image;
mod ingest;
pub mod layer;
pub mod limits;
mod manifest;
mod platform;
mod pull;
mod reference;
mod registry;
mod store;

pub use digest::{Digest, DigestError};
pub use error::{ErrorKind, ImageError};
pub use image::{Image, Rootfs, RootfsPart};
pub use platform::{Platform, PlatformError};
pub use pull::{LayerProgress, PullEvent};
pub use reference::{Reference, ReferenceError};
pub use store::{Credentials, Settings, Store};
