//! What all virtio devices share, and the devices themselves.
//!
//! Every device folder has the same grammar: `device` holds the model, `request` or `packet` the
//! pure parser of what the guest wrote, `backend` the traits that the host side implements.

pub mod balloon;
pub mod block;
mod chain;
pub mod console;
mod device;
pub mod net;
pub mod pmem;
mod queue;
mod queued;
pub mod rng;
mod used;
pub mod vsock;

#[cfg(any(test, feature = "test-driver"))]
pub mod driver;

pub use chain::{Buffers, Chain, ChainError};
pub use device::{Device, DeviceKind, Memory, QUEUES_MAX, Readiness, read_config_bytes};
pub use queue::{QueueError, Serve, Served, serve};
pub use queued::{DeviceError, QueuedDevice, Ran, StartError, place_queue};

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// The features that every device offers: virtio 1, indirect descriptors, event indices.
pub const RING_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;
