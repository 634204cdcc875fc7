//! The host's sockets behind a socket device: each checks what reaches it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard};

use husk_devices::virtio::Buffers;
use husk_devices::virtio::vsock::{Host, Stream};
use vm_memory::VolatileSlice;

/// Bytes that a peer sends all in all: tests need no more.
const SENDS_MAX: usize = 1 << 20;

/// The far end of one connection. What it sends counts up, byte for byte, and so does what it
/// expects: one that is lost, doubled or swapped is noticed.
#[derive(Clone, Default)]
pub struct Peer(Arc<Mutex<PeerState>>);

/// What a peer does and has seen.
#[derive(Default)]
pub struct PeerState {
    /// Bytes that it sends before anything counts: a client's opening line.
    pub opening: VecDeque<u8>,
    /// Bytes of its count that it has still to send, and those that it has sent.
    pub sends: usize,
    pub sent: usize,
    /// Bytes that it takes before it is full.
    pub room: usize,
    /// Bytes that it has taken, a client's answer line not counted.
    pub received: usize,
    /// It expects a line first.
    pub expects_line: bool,
    /// What it takes is the guest's count; false where a hostile driver may have sent anything.
    pub strict: bool,
    /// It sends no more once all is sent.
    pub sent_all: bool,
    /// It fails every call.
    pub gone: bool,
    /// The device has dropped its end.
    pub closed: bool,
}

impl Peer {
    /// A peer with those properties.
    pub fn new(state: PeerState) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// Its state.
    pub fn state(&self) -> MutexGuard<'_, PeerState> {
        self.0.lock().expect("one thread")
    }
}

/// Byte `at` of every count.
pub fn counted(at: usize) -> u8 {
    u8::try_from(at % 251).expect("below 251")
}

impl PeerState {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.expects_line {
                self.expects_line = byte != b'\n';
                continue;
            }
            assert!(!self.strict || byte == counted(self.received), "bytes arrive in order");
            self.received += 1;
        }
    }

    fn give(&mut self, bytes: &mut [u8]) -> usize {
        let mut count = 0;
        for place in bytes {
            if let Some(byte) = self.opening.pop_front() {
                *place = byte;
            } else if self.sends > 0 && self.sent < SENDS_MAX {
                *place = counted(self.sent);
                self.sent += 1;
                self.sends -= 1;
            } else {
                break;
            }
            count += 1;
        }
        count
    }
}

/// The device's end.
pub struct SocketStream(Peer);

impl Drop for SocketStream {
    fn drop(&mut self) {
        self.0.state().closed = true;
    }
}

impl Read for SocketStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut peer = self.0.state();
        if peer.gone {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        match peer.give(bytes) {
            0 if !bytes.is_empty() && !peer.sent_all => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for SocketStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut peer = self.0.state();
        if peer.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(peer.room);
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        peer.room -= count;
        peer.take(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for SocketStream {
    fn read_volatile(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let buffers = Buffers::from(buffers.to_vec());
        let mut bytes = vec![0; buffers.len()];
        let count = self.read(&mut bytes)?;
        Ok(buffers.copy_from(&bytes[..count]))
    }

    fn write_volatile(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let buffers = Buffers::from(buffers.to_vec());
        let mut bytes = vec![0; buffers.len()];
        buffers.copy_to(&mut bytes);
        self.write(&bytes)
    }

    fn shutdown(&mut self, _how: Shutdown) -> io::Result<()> {
        Ok(())
    }
}

/// Clients that wait, and who serves which port.
#[derive(Clone, Default)]
pub struct SocketHost(Arc<Mutex<HostState>>);

/// The same, as fields.
#[derive(Default)]
pub struct HostState {
    /// Clients that wait to be accepted.
    pub clients: VecDeque<Peer>,
    /// Who takes the next connection to a port.
    pub servers: HashMap<u32, Peer>,
    /// Tokens under which streams are watched.
    pub watched: Vec<u32>,
    /// Descriptors have run out.
    pub exhausted: bool,
}

impl SocketHost {
    /// Its state.
    pub fn state(&self) -> MutexGuard<'_, HostState> {
        self.0.lock().expect("one thread")
    }
}

impl Host for SocketHost {
    type Stream = SocketStream;

    fn accept(&mut self) -> io::Result<SocketStream> {
        let mut host = self.state();
        if host.exhausted {
            return Err(io::Error::other("too many open files"));
        }
        host.clients.pop_front().map(SocketStream).ok_or(io::ErrorKind::WouldBlock.into())
    }

    fn connect(&mut self, port: u32) -> io::Result<SocketStream> {
        let server = self.state().servers.remove(&port);
        server.map(SocketStream).ok_or(io::ErrorKind::ConnectionRefused.into())
    }

    fn watch(&mut self, _stream: &SocketStream, token: u32) -> io::Result<()> {
        let mut host = self.state();
        if host.exhausted {
            return Err(io::Error::other("too many watches"));
        }
        if !host.watched.contains(&token) {
            host.watched.push(token);
        }
        Ok(())
    }
}
