//! The virtio-mmio transport, version 2 (section 4.2 of virtio 1.3).
//!
//! ```text
//!  vCPU threads ── read, write ──▶ Transport ◀── kick, handle_event, run_again ── device thread
//!                                  │  lock: registers, queues, the device itself
//!                                  └─ no lock: interrupt status
//! ```
//!
//! A register access waits for a turn of the device where both need the same state, which makes a
//! reset complete once its write has returned. The driver's interrupt handler needs two registers
//! only, and these never wait.
//!
//! Kicks are meant to arrive at the device thread through ioeventfds on [`QUEUE_NOTIFY`]. One that
//! arrives as a register write is noted, and the device thread woken.

#[cfg(any(test, feature = "test-driver"))]
pub mod driver;
mod registers;
mod status;
mod transport;

#[cfg(test)]
mod tests;

pub use transport::Transport;

/// Bytes of a device's register window, configuration space included.
pub const WINDOW_LENGTH: u64 = 0x1000;

/// The register whose writes are kicks: 32 bits, the queue's index.
pub const QUEUE_NOTIFY: u64 = virtio_bindings::virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY as u64;
