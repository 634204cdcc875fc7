//! What the device asks of the host's tap.

use std::io;

use vm_memory::VolatileSlice;

/// Work that whoever receives a frame leaves to whoever is next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offload {
    /// Frames without a checksum.
    pub checksum: bool,
    /// TCP over IPv4 that is yet to be cut into segments.
    pub tso4: bool,
    /// TCP over IPv6 that is yet to be cut into segments.
    pub tso6: bool,
}

/// A tap that never waits: what cannot be done now is [`WouldBlock`](io::ErrorKind::WouldBlock),
/// and the host reports when that changes as readiness of [`TAP`](super::TAP).
///
/// Every frame begins with a header of [`HEADER_LENGTH`](super::HEADER_LENGTH) bytes; one call
/// moves one frame, at most [`PIECES_MAX`](super::PIECES_MAX) pieces of memory.
pub trait Backend: Send {
    /// Reads the next frame into `buffers` in order, and returns its length. What they do not hold
    /// of it is lost. The last two bytes of the header stay as they are.
    fn read(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize>;

    /// Sends one frame.
    fn write(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<()>;

    /// Says what the frames read from now on may leave undone.
    fn set_offload(&mut self, offload: Offload) -> io::Result<()>;
}
