//! The entropy device (section 5.4 of virtio 1.2).

mod backend;
mod device;

pub use backend::Backend;
pub use device::Rng;
