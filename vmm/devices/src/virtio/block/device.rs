//! The device model.

use std::io;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use virtio_queue::{DescriptorChain, Queue};

use super::request::{DISCARD, RangeLimits, WRITE_ZEROES};
use super::{
    Backend, Range, Request, RequestError, RequestKind, SECTOR_LENGTH, SERIAL_LENGTH, Segments,
};
use crate::rate_limiter::Throttle;
use crate::virtio::{
    Chain, Device, DeviceKind, Memory, QueueError, RING_FEATURES, Readiness, Serve, Served,
    read_config_bytes, serve,
};

/// The token of the alarm of a limited disk.
pub const THROTTLE: u32 = 0;

/// Descriptors of the queue; a request takes two of them besides its data.
const QUEUE_SIZE: u16 = 128;

/// Bytes of `struct virtio_blk_config` up to the write-zeroes fields.
const CONFIG_LENGTH: usize = 60;

/// Files work in pages: 2^3 sectors of 512 bytes.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

/// A disk, with one queue.
pub struct Block<B> {
    segments: Segments<B>,
    serial: [u8; SERIAL_LENGTH],
    read_only: bool,
    config: [u8; CONFIG_LENGTH],
    throttle: Throttle,
    /// Requests wait for tokens.
    stalled: bool,
}

impl<B: Backend> Block<B> {
    /// A disk of those segments. A `serial` beyond 20 bytes is cut.
    pub fn new(segments: Segments<B>, serial: &str, read_only: bool) -> Self {
        let mut padded = [0; SERIAL_LENGTH];
        let length = serial.len().min(SERIAL_LENGTH);
        padded[..length].copy_from_slice(&serial.as_bytes()[..length]);
        let config = config_space(segments.length());
        let throttle = Throttle::default();
        Self { segments, serial: padded, read_only, config, throttle, stalled: false }
    }

    /// The same with a limit, whose alarm arrives under [`THROTTLE`].
    #[must_use]
    pub fn with_throttle(self, throttle: Throttle) -> Self {
        Self { throttle, ..self }
    }

    /// Acts on one chain, or leaves it for later.
    fn handle(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> Serve {
        let request = Chain::collect(chain, memory)
            .and_then(|chain| Request::parse(chain, self.segments.length(), self.read_only));
        // Without a place for the status, all that is left is to give the chain back.
        let Ok(request) = request else { return Serve::Done(0) };
        if !self.throttle.admit(request.kind.as_ref().map_or(0, RequestKind::data_length)) {
            self.stalled = true;
            return Serve::Stop;
        }
        Serve::Done(self.answer(request))
    }

    /// Acts on one request and returns the bytes written to its chain.
    fn answer(&mut self, Request { kind, mut status }: Request<'_>) -> u32 {
        let (code, written) = match kind {
            Ok(kind) => match self.execute(kind) {
                Ok(written) => (VIRTIO_BLK_S_OK, written),
                Err(_) => (VIRTIO_BLK_S_IOERR, 0),
            },
            Err(RequestError::Unsupported(_) | RequestError::Flags(_)) => (VIRTIO_BLK_S_UNSUPP, 0),
            Err(_) => (VIRTIO_BLK_S_IOERR, 0),
        };
        let code = u8::try_from(code).expect("the three codes are 0, 1 and 2");
        match status.write(&[code]) {
            Ok(()) => u32::try_from(written + 1).unwrap_or(u32::MAX),
            Err(_) => 0,
        }
    }

    /// Returns the bytes of data that the driver receives.
    fn execute(&mut self, request: RequestKind<'_>) -> io::Result<usize> {
        match request {
            RequestKind::Read { offset, data } => {
                let length = data.len();
                self.segments.read(offset, data)?;
                return Ok(length);
            }
            RequestKind::Write { offset, data } => self.segments.write(offset, data)?,
            RequestKind::Flush => {
                if !self.read_only {
                    self.segments.sync()?;
                }
            }
            RequestKind::Discard(ranges) => {
                for Range { offset, length, .. } in ranges {
                    self.discard(offset, length)?;
                }
            }
            RequestKind::WriteZeroes(ranges) => {
                for Range { offset, length, unmap } in ranges {
                    self.write_zeroes(offset, length, unmap)?;
                }
            }
            RequestKind::Serial(data) => return Ok(data.copy_from(&self.serial)),
        }
        Ok(0)
    }

    /// A hint: a file system that cannot punch holes just keeps the space.
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        match self.segments.for_range(offset, length, B::punch_hole) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            other => other,
        }
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        if unmap {
            match self.segments.for_range(offset, length, B::punch_hole) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                other => return other,
            }
        }
        self.segments.for_range(offset, length, B::write_zeros)
    }
}

/// `struct virtio_blk_config` (section 5.2.4).
fn config_space(disk_length: u64) -> [u8; CONFIG_LENGTH] {
    let mut space = [0; CONFIG_LENGTH];
    let mut put = |offset: usize, bytes: &[u8]| {
        space[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    let sector_length = u32::try_from(SECTOR_LENGTH).expect("512 fits");
    let count = |limits: &RangeLimits| u32::try_from(limits.count).expect("it fits").to_le_bytes();
    put(0, &(disk_length / SECTOR_LENGTH).to_le_bytes());
    put(12, &u32::from(QUEUE_SIZE - 2).to_le_bytes()); // seg_max
    put(20, &sector_length.to_le_bytes()); // blk_size
    put(24, &[PHYSICAL_BLOCK_EXPONENT, 0]);
    put(34, &1_u16.to_le_bytes()); // num_queues
    put(36, &DISCARD.sectors.to_le_bytes()); // max_discard_sectors
    put(40, &count(&DISCARD)); // max_discard_seg
    put(44, &(1_u32 << PHYSICAL_BLOCK_EXPONENT).to_le_bytes()); // discard_sector_alignment
    put(48, &WRITE_ZEROES.sectors.to_le_bytes()); // max_write_zeroes_sectors
    put(52, &count(&WRITE_ZEROES)); // max_write_zeroes_seg
    put(56, &[1]); // write_zeroes_may_unmap
    space
}

impl<B: Backend> Device for Block<B> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        let reading = RING_FEATURES
            | 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_TOPOLOGY
            | 1 << VIRTIO_BLK_F_FLUSH;
        if self.read_only {
            reading | 1 << VIRTIO_BLK_F_RO
        } else {
            reading | 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES
        }
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        read_config_bytes(&self.config, offset, data);
    }

    fn reset(&mut self) {
        self.stalled = false;
        self.throttle.reset();
    }

    fn process(
        &mut self,
        _index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        if self.throttle.is_waiting() {
            return Ok(Served::default());
        }
        self.stalled = false;
        serve(queue, memory, |chain| self.handle(chain, memory))
    }

    fn handle_event(&mut self, _token: u32, _readiness: Readiness) {
        self.throttle.wake();
    }

    fn ready_queues(&self) -> u32 {
        u32::from(self.stalled && !self.throttle.is_waiting())
    }
}
