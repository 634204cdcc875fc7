//! The block device (section 5.2 of virtio 1.2): a concatenation of files.

mod backend;
mod device;
mod request;
mod segment;

pub use backend::Backend;
pub use device::{Block, THROTTLE};
pub use request::{Range, Request, RequestError, RequestKind};
pub use segment::{Segment, Segments, SegmentsError};

/// Bytes of a sector, the unit of every address on the wire.
pub const SECTOR_LENGTH: u64 = 512;

/// Bytes of a device's serial on the wire (`VIRTIO_BLK_ID_BYTES`).
pub const SERIAL_LENGTH: usize = 20;

#[cfg(test)]
mod tests;
