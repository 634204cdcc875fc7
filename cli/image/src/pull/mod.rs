//! Pulling: from a reference to an image that is whole and durable in the store.

mod event;

pub use event::{LayerProgress, PullEvent};
