//! Requests as the driver wrote them (section 5.2.6), read once and checked.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::SECTOR_LENGTH;
use crate::virtio::{Buffers, Chain, ChainError};

/// What the ranges of one request may be.
pub(super) struct RangeLimits {
    /// How many.
    pub(super) count: usize,
    /// Sectors of each.
    pub(super) sectors: u32,
    /// Flags that may be set.
    flags: u32,
}

/// Up to 32 ranges of 2 GiB: space is given back without touching it.
pub(super) const DISCARD: RangeLimits = RangeLimits { count: 32, sectors: 1 << 22, flags: 0 };

/// One range of 32 MiB: where the host's file system has no better way, zeros are written, and the
/// device does nothing else meanwhile.
pub(super) const WRITE_ZEROES: RangeLimits =
    RangeLimits { count: 1, sectors: 1 << 16, flags: FLAG_UNMAP };

/// Bytes of one range on the wire.
const RANGE_LENGTH: usize = 16;

/// The flag that lets the device give the range's space back.
const FLAG_UNMAP: u32 = 1;

/// What is asked of the device.
#[derive(Debug)]
pub enum RequestKind<'m> {
    /// Fill the memory from the disk at that byte offset.
    Read {
        /// Bytes from the disk's start.
        offset: u64,
        /// Where to.
        data: Buffers<'m>,
    },
    /// Write the memory to the disk at that byte offset.
    Write {
        /// Bytes from the disk's start.
        offset: u64,
        /// Where from.
        data: Buffers<'m>,
    },
    /// Make all writes durable.
    Flush,
    /// Give those ranges' space back.
    Discard(Vec<Range>),
    /// Make those ranges read as zeros.
    WriteZeroes(Vec<Range>),
    /// Tell the serial.
    Serial(Buffers<'m>),
}

impl RequestKind<'_> {
    /// Bytes that move between disk and memory.
    pub fn data_length(&self) -> usize {
        match self {
            Self::Read { data, .. } | Self::Write { data, .. } => data.len(),
            Self::Flush | Self::Discard(_) | Self::WriteZeroes(_) | Self::Serial(_) => 0,
        }
    }
}

/// A run of sectors, as byte offset and length, within the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// Bytes from the disk's start.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// The device may give the space back.
    pub unmap: bool,
}

/// One request, and the byte that receives its outcome.
#[derive(Debug)]
pub struct Request<'m> {
    /// What is asked, or why it is refused.
    pub kind: Result<RequestKind<'m>, RequestError>,
    /// The last writable byte of the chain.
    pub status: Buffers<'m>,
}

/// Why a request is refused; the driver hears `IOERR`, or `UNSUPP` for [`Self::Unsupported`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The chain is not one.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A type that was not offered.
    #[error("request type {0} is not supported")]
    Unsupported(u32),
    /// It leaves the disk.
    #[error("sectors from {sector} lie outside the disk")]
    OutsideDisk {
        /// The first sector asked for.
        sector: u64,
    },
    /// Its data is no whole number of sectors or ranges.
    #[error("{length} bytes are no whole number of units")]
    Length {
        /// Bytes that came.
        length: usize,
    },
    /// A range is longer than was offered, or there are too many.
    #[error("a range is beyond the limits of the device")]
    Limits,
    /// A flag that the specification reserves.
    #[error("flags {0:#x} are reserved")]
    Flags(u32),
    /// It would change a disk that only reads.
    #[error("the disk is read-only")]
    ReadOnly,
}

impl<'m> Request<'m> {
    /// Reads a request for a disk of `disk_length` bytes.
    ///
    /// An error means that not even a place for the status is there.
    pub fn parse(chain: Chain<'m>, disk_length: u64, read_only: bool) -> Result<Self, ChainError> {
        let Chain { readable, writable } = chain;
        let mut data_in = writable;
        let data_length = data_in.len().checked_sub(1).ok_or(ChainError::TooShort)?;
        let mut status = data_in;
        data_in = status.take(data_length)?;
        let kind = parse_kind(readable, data_in, disk_length, read_only);
        Ok(Self { kind, status })
    }
}

fn parse_kind<'m>(
    mut data_out: Buffers<'m>,
    data_in: Buffers<'m>,
    disk_length: u64,
    read_only: bool,
) -> Result<RequestKind<'m>, RequestError> {
    let header = data_out.read::<16>()?;
    let kind = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
    let sector = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
    let writes =
        matches!(kind, VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES);
    if writes && read_only {
        return Err(RequestError::ReadOnly);
    }
    match kind {
        VIRTIO_BLK_T_IN => {
            let offset = byte_offset(sector, data_in.len(), disk_length)?;
            Ok(RequestKind::Read { offset, data: data_in })
        }
        VIRTIO_BLK_T_OUT => {
            let offset = byte_offset(sector, data_out.len(), disk_length)?;
            Ok(RequestKind::Write { offset, data: data_out })
        }
        VIRTIO_BLK_T_FLUSH => Ok(RequestKind::Flush),
        VIRTIO_BLK_T_GET_ID => Ok(RequestKind::Serial(data_in)),
        VIRTIO_BLK_T_DISCARD => Ok(RequestKind::Discard(ranges(data_out, disk_length, &DISCARD)?)),
        VIRTIO_BLK_T_WRITE_ZEROES => {
            Ok(RequestKind::WriteZeroes(ranges(data_out, disk_length, &WRITE_ZEROES)?))
        }
        other => Err(RequestError::Unsupported(other)),
    }
}

fn byte_offset(sector: u64, length: usize, disk_length: u64) -> Result<u64, RequestError> {
    let bytes = length as u64;
    if !bytes.is_multiple_of(SECTOR_LENGTH) {
        return Err(RequestError::Length { length });
    }
    let offset = sector.checked_mul(SECTOR_LENGTH);
    let end = offset.and_then(|offset| offset.checked_add(bytes));
    match (offset, end) {
        (Some(offset), Some(end)) if end <= disk_length => Ok(offset),
        _ => Err(RequestError::OutsideDisk { sector }),
    }
}

/// Reads `struct virtio_blk_discard_write_zeroes` as often as there are bytes for it.
fn ranges(
    mut data: Buffers<'_>,
    disk_length: u64,
    limits: &RangeLimits,
) -> Result<Vec<Range>, RequestError> {
    let length = data.len();
    if length == 0 || !length.is_multiple_of(RANGE_LENGTH) {
        return Err(RequestError::Length { length });
    }
    let count = length / RANGE_LENGTH;
    if count > limits.count {
        return Err(RequestError::Limits);
    }
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let bytes = data.read::<RANGE_LENGTH>()?;
        let sector = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let sectors = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        let flags = u32::from_le_bytes(bytes[12..].try_into().expect("four bytes"));
        if flags & !limits.flags != 0 {
            return Err(RequestError::Flags(flags));
        }
        if sectors > limits.sectors {
            return Err(RequestError::Limits);
        }
        let length = u64::from(sectors) * SECTOR_LENGTH;
        let offset = sector.checked_mul(SECTOR_LENGTH);
        let end = offset.and_then(|offset| offset.checked_add(length));
        let (Some(offset), Some(end)) = (offset, end) else {
            return Err(RequestError::OutsideDisk { sector });
        };
        if end > disk_length {
            return Err(RequestError::OutsideDisk { sector });
        }
        ranges.push(Range { offset, length, unmap: flags & FLAG_UNMAP != 0 });
    }
    Ok(ranges)
}
