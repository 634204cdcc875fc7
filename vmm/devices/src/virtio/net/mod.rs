//! The network device (section 5.1 of virtio 1.2): frames between a guest and a tap of the host.

mod backend;
mod device;
mod packet;
mod receive;

pub use backend::{Backend, Offload};
pub use device::{Net, RECEIVE_THROTTLE, TAP, TRANSMIT_THROTTLE};
pub use packet::{Header, HeaderError};

/// Bytes of `struct virtio_net_hdr`, before every frame in either direction.
pub const HEADER_LENGTH: usize = 12;

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_LENGTH: usize = 14;

/// The most bytes of a frame with its header: an IP packet of 64 KiB that is yet to be cut into
/// segments (section 5.1.6.3.1).
pub const FRAME_LENGTH_MAX: usize = HEADER_LENGTH + ETHERNET_LENGTH + (64 << 10);

/// Pieces of one frame that a backend has to take in one call.
pub const PIECES_MAX: usize = 64;

#[cfg(test)]
mod tests;
