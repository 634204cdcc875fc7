//! The bytes of an output stream that the host has not acknowledged: a ring, without any I/O.
//!
//! Offsets count from the first byte that the process ever wrote:
//!
//! ```text
//!   0 ………… acknowledged ═════ held ═════ produced
//! ```

use husk_protocol::limits::UNACKNOWLEDGED_MAX;

/// Why an offset or acknowledgement was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OffsetError {
    /// Those bytes were acknowledged before and are gone.
    #[error("byte {offset} of the stream is gone, the first one held is {first}")]
    Gone {
        /// Asked for.
        offset: u64,
        /// The first byte still held.
        first: u64,
    },
    /// The process has not written so much yet.
    #[error("byte {offset} of the stream does not exist yet, {produced} were written")]
    Future {
        /// Asked for.
        offset: u64,
        /// Bytes written so far.
        produced: u64,
    },
}

/// A ring of at most [`UNACKNOWLEDGED_MAX`] bytes.
#[derive(Debug, Default)]
pub struct OutputBuffer {
    /// Empty until the first byte comes, [`UNACKNOWLEDGED_MAX`] long from then on.
    ring: Vec<u8>,
    /// Where in the ring the first byte held is.
    head: usize,
    held: usize,
    acknowledged: u64,
}

impl OutputBuffer {
    /// Offset behind the last byte written.
    pub fn produced(&self) -> u64 {
        self.acknowledged + self.held as u64
    }

    /// Offset of the first byte held.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// True if not a byte more can be held.
    pub fn is_full(&self) -> bool {
        self.held == UNACKNOWLEDGED_MAX
    }

    /// The free room in order, to be read into; [`Self::commit`] tells how much was.
    pub fn spare(&mut self) -> [&mut [u8]; 2] {
        if self.ring.is_empty() {
            self.ring = vec![0; UNACKNOWLEDGED_MAX];
        }
        if self.held == 0 {
            self.head = 0;
        }
        let capacity = self.ring.len();
        let tail = self.head + self.held;
        if tail >= capacity {
            [&mut self.ring[tail - capacity..self.head], &mut []]
        } else {
            let (front, back) = self.ring.split_at_mut(tail);
            [back, &mut front[..self.head]]
        }
    }

    /// Takes `count` bytes of [`Self::spare`] as written.
    ///
    /// # Panics
    /// If there was not so much room.
    pub fn commit(&mut self, count: usize) {
        assert!(self.held + count <= self.ring.len(), "more bytes read than there was room for");
        self.held += count;
    }

    /// At most `max` bytes from `offset` on, in up to two pieces; both empty at the end.
    ///
    /// # Errors
    /// [`OffsetError`] if they are not held.
    pub fn bytes(&self, offset: u64, max: usize) -> Result<[&[u8]; 2], OffsetError> {
        let skip = self.position(offset)?;
        let count = (self.held - skip).min(max);
        if count == 0 {
            return Ok([&[], &[]]);
        }
        let capacity = self.ring.len();
        let start = (self.head + skip) % capacity;
        let first = count.min(capacity - start);
        Ok([&self.ring[start..start + first], &self.ring[..count - first]])
    }

    /// Forgets all bytes before `total`, which the host has stored.
    ///
    /// # Errors
    /// [`OffsetError`] if it lies before what was acknowledged, or behind what was written.
    pub fn acknowledge(&mut self, total: u64) -> Result<(), OffsetError> {
        let count = self.position(total)?;
        self.acknowledged = total;
        self.held -= count;
        self.head = if self.held == 0 { 0 } else { (self.head + count) % self.ring.len() };
        Ok(())
    }

    /// Gives the ring's memory back, once nothing more will be written and all is acknowledged.
    pub fn release(&mut self) {
        if self.held == 0 {
            self.ring = Vec::new();
            self.head = 0;
        }
    }

    /// How far behind the first byte held `offset` lies.
    fn position(&self, offset: u64) -> Result<usize, OffsetError> {
        let ahead = offset
            .checked_sub(self.acknowledged)
            .ok_or(OffsetError::Gone { offset, first: self.acknowledged })?;
        usize::try_from(ahead)
            .ok()
            .filter(|ahead| *ahead <= self.held)
            .ok_or(OffsetError::Future { offset, produced: self.produced() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(buffer: &mut OutputBuffer, bytes: &[u8]) -> usize {
        let mut written = 0;
        for part in buffer.spare() {
            let count = part.len().min(bytes.len() - written);
            part[..count].copy_from_slice(&bytes[written..written + count]);
            written += count;
        }
        buffer.commit(written);
        written
    }

    #[test]
    fn an_empty_buffer_holds_nothing_at_offset_zero() {
        let buffer = OutputBuffer::default();
        assert_eq!(buffer.bytes(0, 10), Ok([&[][..], &[][..]]));
        assert_eq!(buffer.bytes(1, 10), Err(OffsetError::Future { offset: 1, produced: 0 }));
    }

    #[test]
    fn a_full_buffer_has_no_room_until_acknowledged() {
        let mut buffer = OutputBuffer::default();
        assert_eq!(write(&mut buffer, &vec![7; UNACKNOWLEDGED_MAX + 5]), UNACKNOWLEDGED_MAX);
        assert!(buffer.is_full());
        assert_eq!(write(&mut buffer, b"x"), 0);
        buffer.acknowledge(3).unwrap();
        assert_eq!(write(&mut buffer, b"abcdef"), 3);
        let [first, second] = buffer.bytes(UNACKNOWLEDGED_MAX as u64, 10).unwrap();
        assert_eq!([first, second].concat(), b"abc");
    }

    #[test]
    fn acknowledged_bytes_are_gone() {
        let mut buffer = OutputBuffer::default();
        write(&mut buffer, b"hello");
        buffer.acknowledge(2).unwrap();
        assert_eq!(buffer.bytes(1, 1), Err(OffsetError::Gone { offset: 1, first: 2 }));
        assert_eq!(buffer.acknowledge(1), Err(OffsetError::Gone { offset: 1, first: 2 }));
        assert_eq!(buffer.acknowledge(6), Err(OffsetError::Future { offset: 6, produced: 5 }));
    }

    #[test]
    fn memory_is_given_back_once_all_is_acknowledged() {
        let mut buffer = OutputBuffer::default();
        write(&mut buffer, b"hello");
        buffer.release();
        assert!(!buffer.ring.is_empty());
        buffer.acknowledge(5).unwrap();
        buffer.release();
        assert!(buffer.ring.is_empty());
        assert_eq!(buffer.produced(), 5);
        assert_eq!(buffer.bytes(5, 1), Ok([&[][..], &[][..]]));
    }

    proptest! {
        #[test]
        fn reads_what_was_written_whatever_the_order(
            steps in prop::collection::vec((0..400_000_usize, 0..400_000_u64), 1..30),
        ) {
            let mut buffer = OutputBuffer::default();
            let mut model: Vec<u8> = Vec::new();
            for (count, acknowledge) in steps {
                let start = model.len();
                let bytes: Vec<u8> =
                    (start..start + count).map(|at| u8::try_from(at % 251).unwrap()).collect();
                let written = write(&mut buffer, &bytes);
                model.extend_from_slice(&bytes[..written]);
                prop_assert_eq!(buffer.produced(), model.len() as u64);
                let from = buffer.acknowledged();
                let [first, second] = buffer.bytes(from, usize::MAX).unwrap();
                let held = [first, second].concat();
                prop_assert_eq!(&held[..], &model[usize::try_from(from).unwrap()..]);
                let total = (from + acknowledge).min(buffer.produced());
                buffer.acknowledge(total).unwrap();
                prop_assert!(model.len() as u64 - buffer.acknowledged() <= UNACKNOWLEDGED_MAX as u64);
            }
        }
    }
}
