//! Registries on loopback: the real one, and one that misbehaves on demand.

mod distribution;
mod scripted;

pub use distribution::Distribution;
pub use scripted::{Fault, Scripted};

/// Something that images can be pulled from.
pub trait Registry {
    /// `127.0.0.1:port`.
    fn address(&self) -> String;

    /// The reference of an image in it, by address.
    fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }
}
