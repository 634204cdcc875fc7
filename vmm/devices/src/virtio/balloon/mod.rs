//! The memory balloon (section 5.5 of virtio 1.2): guest memory that comes back to the host.
//!
//! Two ways lead back. The driver inflates the balloon to the size that the host asks for; and,
//! without being asked, it reports what the guest has freed. Either way the guest merely gives up
//! content of its own memory: it may name what it likes, as long as that is memory.

mod backend;
mod control;
mod device;
mod request;
mod statistics;

pub use backend::Backend;
pub use control::Control;
pub use device::{Balloon, CONTROL, Features};
pub use statistics::Statistics;

/// Bytes of a page on the wire, whatever the guest's own (section 5.5.6).
pub const PAGE_LENGTH: u64 = 4096;

#[cfg(test)]
mod tests;
