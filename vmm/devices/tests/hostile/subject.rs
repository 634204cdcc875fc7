//! Every device model, each with a host side that knows what must not happen to it.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use husk_devices::rate_limiter::Timer;
use husk_devices::virtio::balloon::{self, Balloon};
use husk_devices::virtio::block::{self, Block, Segment, Segments};
use husk_devices::virtio::console::{self, Console, Ring};
use husk_devices::virtio::net::{self, Net};
use husk_devices::virtio::pmem::Pmem;
use husk_devices::virtio::rng::{self, Rng};
use husk_devices::virtio::vsock::{self, Vsock};
use husk_devices::virtio::{Buffers, Device};
use vm_memory::VolatileSlice;

/// Bytes of the disks here.
pub(crate) const DISK_LENGTH: usize = 64 << 10;

/// The guest's context ID.
pub(crate) const CID: u32 = 3;

/// A device under attack.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) device: Box<dyn Device>,
    /// Fails if something happened that must not.
    pub(crate) unharmed: Box<dyn Fn()>,
}

/// One of each kind, new.
pub(crate) fn all() -> Vec<Subject> {
    let (read_only, file) = disk(true);
    let (writable, _) = disk(false);
    let content = content();
    let terminal = Terminal::default();
    let shown = terminal.clone();
    vec![
        Subject {
            name: "read-only block",
            device: read_only,
            unharmed: Box::new(move || assert!(bytes(&file) == content, "the file is as it was")),
        },
        Subject { name: "block", device: writable, unharmed: Box::new(|| ()) },
        Subject { name: "rng", device: Box::new(Rng::new(Sevens)), unharmed: Box::new(|| ()) },
        Subject {
            name: "console",
            device: Box::new(Console::new(terminal)),
            unharmed: Box::new(move || assert!(shown.text().len() <= 3 * Terminal::KEPT)),
        },
        Subject {
            name: "vsock",
            device: Box::new(Vsock::new(Sockets::default(), CID)),
            unharmed: Box::new(|| ()),
        },
        Subject {
            name: "net",
            device: Box::new(Net::new(Tap, MAC, 1500)),
            unharmed: Box::new(|| ()),
        },
        Subject {
            name: "balloon",
            device: Box::new(Balloon::new(Pages, BALLOON)),
            unharmed: Box::new(|| ()),
        },
        Subject {
            name: "pmem",
            device: Box::new(Pmem::new(1 << 32, 2 << 20)),
            unharmed: Box::new(|| ()),
        },
    ]
}

/// What the disks hold at first.
pub(crate) fn content() -> Vec<u8> {
    (0..DISK_LENGTH).map(|at| u8::try_from(at % 251).expect("below 251")).collect()
}

/// All bytes of a file.
pub(crate) fn bytes(file: &File) -> Vec<u8> {
    let length = usize::try_from(file.metadata().expect("a file").len()).expect("small");
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).expect("the whole file");
    bytes
}

/// A disk in two segments on one real file, opened as the engine would open it; and that file.
pub(crate) fn disk(read_only: bool) -> (Box<dyn Device>, File) {
    let mut named = tempfile::NamedTempFile::new().expect("a temporary file");
    named.write_all(&content()).expect("space for it");
    let open = || {
        let file = File::options().read(true).write(!read_only).open(named.path());
        DiskFile { file: file.expect("it is there") }
    };
    let half = DISK_LENGTH as u64 / 2;
    let parts = [(open(), half), (open(), half)];
    let segments = parts.map(|(backend, length)| Segment { backend, length });
    let segments = Segments::new(segments).expect("two segments");
    (Box::new(Block::new(segments, "hostile", read_only)), named.into_file())
}

/// A file, with the rights that it was opened with.
struct DiskFile {
    file: File,
}

impl block::Backend for DiskFile {
    fn read_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
        let buffers = Buffers::from(buffers.to_vec());
        let mut bytes = vec![0; buffers.len()];
        let count = self.file.read_at(&mut bytes, offset)?;
        Ok(buffers.copy_from(&bytes[..count]))
    }

    fn write_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
        let buffers = Buffers::from(buffers.to_vec());
        let mut bytes = vec![0; buffers.len()];
        buffers.copy_to(&mut bytes);
        self.file.write_at(&bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.write_zeros(offset, length)
    }

    fn write_zeros(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        assert!(length <= DISK_LENGTH, "a range stays within its disk");
        self.file.write_all_at(&vec![0; length], offset)
    }
}

/// Entropy that can be recognised.
struct Sevens;

impl rng::Backend for Sevens {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(7);
        Ok(())
    }
}

/// The address of the network device.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A tap that has no frame and takes every sound one.
struct Tap;

impl net::Backend for Tap {
    fn read(&mut self, _buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
        assert!(buffers.len() <= net::PIECES_MAX);
        let frame = Buffers::from(buffers.to_vec());
        assert!(frame.len() <= net::FRAME_LENGTH_MAX, "no frame is longer than any may be");
        let mut front = [0; net::HEADER_LENGTH + net::ETHERNET_LENGTH];
        assert_eq!(frame.copy_to(&mut front), front.len(), "no frame is shorter");
        assert_eq!(front[net::HEADER_LENGTH + 6..][..6], MAC, "under its own address");
        Ok(())
    }

    fn set_offload(&mut self, _offload: net::Offload) -> io::Result<()> {
        Ok(())
    }
}

/// All that a balloon may offer.
const BALLOON: balloon::Features =
    balloon::Features { free_page_reporting: true, statistics: true, deflate_on_oom: true };

/// The host's memory: what is given back is whole pages.
struct Pages;

impl balloon::Backend for Pages {
    fn discard(&mut self, memory: &VolatileSlice<'_>) -> io::Result<()> {
        let start = memory.ptr_guard().as_ptr() as u64;
        let whole = start.is_multiple_of(4096) && memory.len().is_multiple_of(4096);
        assert!(whole, "{} bytes at {start:#x} are no pages", memory.len());
        Ok(())
    }
}

/// A terminal that keeps the last of what it was shown.
#[derive(Clone)]
pub(crate) struct Terminal(Arc<Mutex<TerminalState>>);

struct TerminalState {
    shown: Ring,
}

impl Default for Terminal {
    fn default() -> Self {
        let state = TerminalState { shown: Ring::new(Self::KEPT) };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl Terminal {
    /// Bytes that it keeps.
    pub(crate) const KEPT: usize = 4096;

    fn state(&self) -> MutexGuard<'_, TerminalState> {
        self.0.lock().expect("no test holds it")
    }

    pub(crate) fn text(&self) -> String {
        self.state().shown.text()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.state().shown.dropped()
    }
}

/// A clock that moves by hand, and rings for nobody.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Timer for Clock {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn wake_after(&mut self, _delay: Duration) {}
}

impl console::Backend for Terminal {
    fn write(&mut self, bytes: &[u8]) {
        self.state().shown.push(bytes);
    }

    fn read(&mut self, _bytes: &mut [u8]) -> usize {
        0
    }

    fn is_readable(&self) -> bool {
        false
    }
}

/// A host where every port is served by one that takes and sends as much as its test says.
#[derive(Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<SocketsState>>);

/// The same, as fields.
#[derive(Default)]
pub(crate) struct SocketsState {
    /// Bytes that every peer still takes, all together.
    pub(crate) room: usize,
    /// Bytes that every peer sends, each.
    pub(crate) sends: usize,
    /// Bytes that were taken.
    pub(crate) taken: usize,
    /// Connections that are open.
    pub(crate) open: usize,
    /// Clients that wait, each with the line that it begins with.
    pub(crate) clients: VecDeque<Vec<u8>>,
    /// Watched connections.
    pub(crate) watched: Vec<u32>,
    /// Ports that nobody serves.
    pub(crate) refused: HashMap<u32, ()>,
}

impl Sockets {
    pub(crate) fn state(&self) -> MutexGuard<'_, SocketsState> {
        self.0.lock().expect("no test holds it")
    }

    fn stream(&self, line: Vec<u8>) -> Socket {
        let mut state = self.state();
        state.open += 1;
        Socket { host: self.clone(), line: line.into(), sends: state.sends }
    }
}

/// One connection.
pub(crate) struct Socket {
    host: Sockets,
    line: VecDeque<u8>,
    sends: usize,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.host.state().open -= 1;
    }
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = if self.line.is_empty() {
            let count = bytes.len().min(self.sends);
            bytes[..count].fill(0x5a);
            self.sends -= count;
            count
        } else {
            let count = bytes.len().min(self.line.len());
            for (place, byte) in bytes.iter_mut().zip(self.line.drain(..count)) {
                *place = byte;
            }
            count
        };
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.host.state();
        let count = bytes.len().min(state.room);
        state.room -= count;
        state.taken += count;
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl vsock::Stream for Socket {
    fn shutdown(&mut self, _how: Shutdown) -> io::Result<()> {
        Ok(())
    }
}

impl vsock::Host for Sockets {
    type Stream = Socket;

    fn accept(&mut self) -> io::Result<Socket> {
        let line = self.state().clients.pop_front();
        line.map(|line| self.stream(line)).ok_or(io::ErrorKind::WouldBlock.into())
    }

    fn connect(&mut self, port: u32) -> io::Result<Socket> {
        if self.state().refused.contains_key(&port) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(self.stream(Vec::new()))
    }

    fn watch(&mut self, _stream: &Socket, token: u32) -> io::Result<()> {
        let mut state = self.state();
        if !state.watched.contains(&token) {
            state.watched.push(token);
        }
        Ok(())
    }
}
