//! What the device asks of the host's sockets.

use std::io;
use std::net::Shutdown;

use vm_memory::VolatileSlice;

use crate::virtio::Buffers;

/// A connected stream socket that never waits: what cannot be done now is
/// [`WouldBlock`](io::ErrorKind::WouldBlock), and the host reports when that changes.
pub trait Stream: io::Read + io::Write + Send {
    /// Reads into `buffers` in order; 0 is the end of what the peer sends. By default by way of a
    /// copy, which a stream that can read into them spares.
    fn read_volatile(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let buffers = Buffers::from(buffers.to_vec());
        let mut bytes = vec![0; buffers.len()];
        let count = self.read(&mut bytes)?;
        Ok(buffers.copy_from(&bytes[..count]))
    }

    /// Writes from `buffers` in order, and returns how much of them. By default by way of a copy.
    fn write_volatile(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let buffers = Buffers::from(buffers.to_vec());
        let mut bytes = vec![0; buffers.len()];
        buffers.copy_to(&mut bytes);
        self.write(&bytes)
    }

    /// Closes one direction or both.
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()>;
}

/// Where streams come from and who tells when they are ready.
pub trait Host: Send {
    /// Its sockets.
    type Stream: Stream;

    /// Takes the next waiting client. Clients are announced as readiness of
    /// [`LISTENER`](super::LISTENER).
    fn accept(&mut self) -> io::Result<Self::Stream>;

    /// Connects to whoever serves that port on the host, or fails at once.
    fn connect(&mut self, port: u32) -> io::Result<Self::Stream>;

    /// Reports, edge-triggered, whenever `stream` becomes readable or writable, until it closes.
    fn watch(&mut self, stream: &Self::Stream, token: u32) -> io::Result<()>;
}
