//! A host whose clients and servers do as a test says.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex};

use super::super::{Host, Stream};

/// The far end of a stream: what the host client sends, and what it has received.
#[derive(Clone, Default)]
pub(super) struct Peer(Arc<Mutex<PeerState>>);

#[derive(Default)]
pub(super) struct PeerState {
    pub(super) sends: VecDeque<u8>,
    pub(super) sent_all: bool,
    pub(super) received: Vec<u8>,
    /// Bytes that it still takes.
    pub(super) room: usize,
    pub(super) gone: bool,
    pub(super) shutdowns: Vec<Shutdown>,
    pub(super) closed: bool,
    pub(super) reads: usize,
}

impl Peer {
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut PeerState) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    pub(super) fn new(sends: &[u8]) -> Self {
        let peer = Self::default();
        peer.with(|state| {
            state.sends.extend(sends);
            state.room = usize::MAX;
        });
        peer
    }

    pub(super) fn received(&self) -> Vec<u8> {
        self.with(|state| state.received.clone())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.with(|state| state.closed)
    }
}

/// The device's end.
pub(super) struct FakeStream(Peer);

impl Drop for FakeStream {
    fn drop(&mut self) {
        self.0.with(|state| state.closed = true);
    }
}

impl Read for FakeStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.with(|state| {
            state.reads += 1;
            let count = bytes.len().min(state.sends.len());
            if count == 0 && !state.sent_all {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            for (place, byte) in bytes.iter_mut().zip(state.sends.drain(..count)) {
                *place = byte;
            }
            Ok(count)
        })
    }
}

impl Write for FakeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.with(|state| {
            if state.gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = bytes.len().min(state.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state.room -= count;
            state.received.extend_from_slice(&bytes[..count]);
            Ok(count)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for FakeStream {
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.0.with(|state| state.shutdowns.push(how));
        Ok(())
    }
}

/// Clients that wait, and servers by port.
#[derive(Clone, Default)]
pub(super) struct FakeHost(pub(super) Arc<Mutex<HostState>>);

#[derive(Default)]
pub(super) struct HostState {
    pub(super) clients: VecDeque<io::Result<Peer>>,
    pub(super) servers: HashMap<u32, Peer>,
    pub(super) watched: Vec<u32>,
}

impl Host for FakeHost {
    type Stream = FakeStream;

    fn accept(&mut self) -> io::Result<FakeStream> {
        let client = self.0.lock().unwrap().clients.pop_front();
        client.unwrap_or(Err(io::ErrorKind::WouldBlock.into())).map(FakeStream)
    }

    fn connect(&mut self, port: u32) -> io::Result<FakeStream> {
        let server = self.0.lock().unwrap().servers.get(&port).cloned();
        server.map(FakeStream).ok_or(io::ErrorKind::ConnectionRefused.into())
    }

    fn watch(&mut self, _stream: &FakeStream, token: u32) -> io::Result<()> {
        self.0.lock().unwrap().watched.push(token);
        Ok(())
    }
}
