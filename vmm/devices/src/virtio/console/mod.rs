//! The console device (section 5.3 of virtio 1.2): one port, no multiport control queues.

mod backend;
mod device;
mod ring;

pub use backend::Backend;
pub use device::{Console, THROTTLE};
pub use ring::Ring;
