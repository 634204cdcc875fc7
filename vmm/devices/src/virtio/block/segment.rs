//! Many files as one run of bytes.

use std::io;

use super::{Backend, SECTOR_LENGTH};
use crate::virtio::Buffers;

/// A file and how much of the disk it backs.
#[derive(Debug)]
pub struct Segment<B> {
    /// The file.
    pub backend: B,
    /// Bytes of the disk, a positive multiple of 512; what lies behind the file's end is zeros.
    pub length: u64,
}

/// Why segments make no disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SegmentsError {
    /// Nothing to concatenate.
    #[error("a disk needs at least one segment")]
    Empty,
    /// A piece of no or a broken number of sectors.
    #[error("segment {index} is {length} bytes long, not a positive multiple of 512")]
    Length {
        /// Its place.
        index: usize,
        /// Its length in bytes.
        length: u64,
    },
    /// The sum does not fit a file offset.
    #[error("the segments together are longer than a file can be")]
    TooLong,
}

/// The concatenation of segments.
#[derive(Debug)]
pub struct Segments<B> {
    /// Each backend behind the disk offset at which it ends.
    parts: Vec<(u64, B)>,
}

impl<B: Backend> Segments<B> {
    /// Puts them one behind the other.
    pub fn new(segments: impl IntoIterator<Item = Segment<B>>) -> Result<Self, SegmentsError> {
        let mut parts = Vec::new();
        let mut end = 0_u64;
        for (index, Segment { backend, length }) in segments.into_iter().enumerate() {
            if length == 0 || !length.is_multiple_of(SECTOR_LENGTH) {
                return Err(SegmentsError::Length { index, length });
            }
            end = end.checked_add(length).ok_or(SegmentsError::TooLong)?;
            if i64::try_from(end).is_err() {
                return Err(SegmentsError::TooLong);
            }
            parts.push((end, backend));
        }
        if parts.is_empty() {
            return Err(SegmentsError::Empty);
        }
        Ok(Self { parts })
    }

    /// Bytes of the whole disk.
    pub fn length(&self) -> u64 {
        self.parts.last().map_or(0, |&(end, _)| end)
    }

    /// Fills `data` from the disk at `offset`; the range lies within the disk.
    pub fn read(&mut self, offset: u64, data: Buffers<'_>) -> io::Result<()> {
        self.each(offset, data, |backend, mut offset, mut data| {
            while !data.is_empty() {
                let count = backend.read_at(data.slices(), offset)?;
                if count == 0 {
                    data.zero();
                    break;
                }
                data.take(count).map_err(io::Error::other)?;
                offset += count as u64;
            }
            Ok(())
        })
    }

    /// Writes `data` to the disk at `offset`; the range lies within the disk.
    pub fn write(&mut self, offset: u64, data: Buffers<'_>) -> io::Result<()> {
        self.each(offset, data, |backend, mut offset, mut data| {
            while !data.is_empty() {
                let count = backend.write_at(data.slices(), offset)?;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                data.take(count).map_err(io::Error::other)?;
                offset += count as u64;
            }
            Ok(())
        })
    }

    /// Makes every write durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.parts.iter_mut().try_for_each(|(_, backend)| backend.sync())
    }

    /// Calls `act` for each backend that has a part in the range, with the backend's own range.
    pub fn for_range(
        &mut self,
        offset: u64,
        length: u64,
        mut act: impl FnMut(&mut B, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = offset.checked_add(length).filter(|&end| end <= self.length());
        let end = end.ok_or(io::ErrorKind::InvalidInput)?;
        let mut offset = offset;
        let mut index = self.parts.partition_point(|&(part_end, _)| part_end <= offset);
        while offset < end {
            let start = if index == 0 { 0 } else { self.parts[index - 1].0 };
            let (part_end, backend) = &mut self.parts[index];
            let stop = end.min(*part_end);
            act(backend, offset - start, stop - offset)?;
            offset = stop;
            index += 1;
        }
        Ok(())
    }

    fn each<'m>(
        &mut self,
        offset: u64,
        mut data: Buffers<'m>,
        mut act: impl FnMut(&mut B, u64, Buffers<'m>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.for_range(offset, data.len() as u64, |backend, offset, length| {
            let length = usize::try_from(length).map_err(io::Error::other)?;
            let part = data.take(length).map_err(io::Error::other)?;
            act(backend, offset, part)
        })
    }
}
