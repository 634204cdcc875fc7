//! The socket device (section 5.10 of virtio 1.2), all of it in user space.
//!
//! ```text
//!  host client ── Stream ──▶ readable? credit? ──▶ RX queue ──▶ guest socket
//!  host client ◀── Stream ◀── Backlog (bounded) ◀── TX queue ◀── guest socket
//! ```
//!
//! Bytes for the guest stay in the host's socket until the guest has credit and a buffer for
//! them: they are read straight into guest memory. Bytes from the guest are written straight from
//! guest memory; what the host's socket does not take waits in a backlog, for which the guest
//! needs credit first.

mod backend;
mod backlog;
mod connection;
mod credit;
mod device;
mod packet;
mod table;

pub use backend::{Host, Stream};
pub use device::{LISTENER, Vsock};
pub use packet::{HEADER_LENGTH, Header, HeaderError, Operation};
pub use table::CONNECTIONS_MAX;

/// The host's context ID.
pub const HOST_CID: u64 = 2;

#[cfg(test)]
mod tests;
