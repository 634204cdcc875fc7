//! The harness of the stories: images, registries, a private Husk, and a check that nothing stays.
//!
//! A story makes a [`Husk`], which has data and sockets of its own in a temporary directory, runs
//! public binaries against it, and looks at what comes back. When the [`Husk`] is dropped, its
//! daemon is ended and the machine must be as it was found; anything left fails the story.

pub mod api;
pub mod cache;
pub mod command;
pub mod fixture;
mod husk;
pub mod leaks;
pub mod pace;
pub mod programs;
pub mod registry;
pub mod skip;
pub mod terminal;

pub use command::{Finished, Invocation};
pub use husk::Husk;

/// The harness's result: any error is a failed story, with its context.
pub type Result<T> = anyhow::Result<T>;
