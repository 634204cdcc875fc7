//! Images: references, registry client, content store, and layers as EROFS.
//!
//! Knows nothing of microVMs or networks. [`Store`] is the way in.

pub mod erofs;
pub mod layer;
