//! Containers, sandboxes, logs, and their durable state.
//!
//! [`Engine`] is the way in. A request becomes a command to the one task that drives the
//! container (`container::driver`); the driver writes every step to the state database before the
//! effects that it stands for, so that the next daemon can finish or undo them (`recovery`).
//! A sandbox is one `husk-vmm` process, which outlives the daemon, and the agent in its guest.
//!
//! Volumes that an image declares (`VOLUME`) have no storage of their own yet: what is written
//! there lies in the container's writable layer, and goes with it.

#![forbid(unsafe_code)]

mod chain;
mod clock;
mod container;
mod context;
mod data_root;
mod engine;
mod id;
mod images;
mod info;
mod limits;
mod paths;
mod pull;
mod recovery;
mod request;
mod sandbox;
mod store;

pub use engine::{Engine, EngineConfig};
pub use images::{ImageSource, Pull};
pub use request::{Attachment, CreateRequest, LogQuery, OutputChunk, PullProgress, WaitCondition};
pub use sandbox::AcceleratorChoice;
