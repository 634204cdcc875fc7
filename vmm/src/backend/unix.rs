//! The host side of the socket device: unix sockets.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use husk_devices::virtio::vsock::{Host, LISTENER, Stream};
use husk_vmm_config::step;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use vm_memory::VolatileSlice;

use crate::poll::{Poll, Watch};
use crate::sys;
use crate::timeline::Timeline;

/// Bytes that a socket's buffer should hold in either direction: enough for a turn of the guest's
/// queue, so that neither side waits for the other packet by packet.
const SOCKET_BUFFER: usize = 256 << 10;

/// A listener for host clients, a directory for guest clients, an event loop for both.
#[derive(Debug)]
pub(crate) struct UnixHost {
    listener: UnixListener,
    directory: PathBuf,
    poll: Arc<Poll>,
    tokens: u64,
    timeline: Arc<Timeline>,
}

impl UnixHost {
    /// `listener` is announced on `poll` from now on. The device's tokens appear there added to
    /// `tokens`, whose lower half is free for them.
    pub(crate) fn new(
        listener: UnixListener,
        directory: PathBuf,
        poll: Arc<Poll>,
        tokens: u64,
        timeline: Arc<Timeline>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        poll.add(&listener, tokens | u64::from(LISTENER), Watch::Edges)?;
        Ok(Self { listener, directory, poll, tokens, timeline })
    }
}

/// A connected unix socket that never waits.
#[derive(Debug)]
pub(crate) struct HostStream(UnixStream);

impl HostStream {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, SOCKET_BUFFER)?;
        Ok(Self(stream))
    }
}

impl Host for UnixHost {
    type Stream = HostStream;

    fn accept(&mut self) -> io::Result<HostStream> {
        HostStream::new(self.listener.accept()?.0)
    }

    fn connect(&mut self, port: u32) -> io::Result<HostStream> {
        let path = self.directory.join(format!("guest-{port}.sock"));
        // Not to wait where the server's queue is full, the socket must not block already now.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        self.timeline.mark(step::CALLED);
        HostStream::new(socket.into())
    }

    fn watch(&mut self, stream: &HostStream, token: u32) -> io::Result<()> {
        self.poll.add(&stream.0, self.tokens | u64::from(token), Watch::Edges)
    }
}

impl Stream for HostStream {
    fn read_volatile(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        sys::read_stream(self.0.as_fd(), buffers)
    }

    fn write_volatile(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        sys::write_stream(self.0.as_fd(), buffers)
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }
}

impl Read for HostStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for HostStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
