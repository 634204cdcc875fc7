//! Files behind a block device, which know what may be done to them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use husk_devices::virtio::Buffers;
use husk_devices::virtio::block::{Backend, Segment};
use vm_memory::VolatileSlice;

/// What lies under a device: the bytes that its segments hold together.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

struct State {
    bytes: Vec<u8>,
    /// Bytes that one call moves at most.
    piece: usize,
    /// Every call fails.
    failing: bool,
    read_only: bool,
}

/// One segment of it.
pub struct DiskFile {
    disk: Disk,
    start: usize,
    length: usize,
}

impl Disk {
    /// A disk of segments with those numbers of sectors, its bytes all different from zero.
    ///
    /// A call moves at most `piece` bytes. A read-only one fails the run if it is changed.
    pub fn new(sectors: &[u64], piece: usize, read_only: bool) -> (Self, Vec<Segment<DiskFile>>) {
        let total = usize::try_from(512 * sectors.iter().sum::<u64>()).expect("small");
        let bytes = (0..total).map(|at| u8::try_from(at % 251 + 1).expect("below 252")).collect();
        let state = State { bytes, piece: piece.max(1), failing: false, read_only };
        let disk = Self(Arc::new(Mutex::new(state)));
        let mut start = 0;
        let segments = sectors.iter().map(|&count| {
            let length = usize::try_from(512 * count).expect("small");
            let backend = DiskFile { disk: disk.clone(), start, length };
            start += length;
            Segment { backend, length: 512 * count }
        });
        let segments = segments.collect();
        (disk, segments)
    }

    /// All of its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// From now on every call fails, or none does.
    pub fn set_failing(&self, failing: bool) {
        self.state().failing = failing;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("one thread")
    }
}

impl DiskFile {
    /// The range of the whole disk; the device must have kept within the segment.
    fn range(&self, offset: u64, length: usize) -> std::ops::Range<usize> {
        let offset = usize::try_from(offset).expect("an offset within the segment");
        assert!(offset + length <= self.length, "{length} bytes at {offset} leave the segment");
        self.start + offset..self.start + offset + length
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        assert!(!state.read_only, "a read-only disk is changed");
        if state.failing { Err(io::ErrorKind::StorageFull.into()) } else { Ok(state) }
    }

    fn fill(&self, offset: u64, length: u64) -> io::Result<()> {
        let range = self.range(offset, usize::try_from(length).expect("small"));
        self.writable()?.bytes[range].fill(0);
        Ok(())
    }
}

impl Backend for DiskFile {
    fn read_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
        let buffers = Buffers::from(buffers.to_vec());
        let range = self.range(offset, buffers.len());
        let state = self.disk.state();
        if state.failing {
            return Err(io::ErrorKind::Other.into());
        }
        let bytes = &state.bytes[range];
        Ok(buffers.copy_from(&bytes[..bytes.len().min(state.piece)]))
    }

    fn write_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
        let buffers = Buffers::from(buffers.to_vec());
        let range = self.range(offset, buffers.len());
        let mut state = self.writable()?;
        let piece = buffers.len().min(state.piece);
        Ok(buffers.copy_to(&mut state.bytes[range][..piece]))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.writable().map(drop)
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.fill(offset, length)
    }

    fn write_zeros(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.fill(offset, length)
    }
}
