//! How far one connection has got in sending an output stream: cuts it into chunks, without I/O.

use std::io::IoSlice;

use husk_protocol::chunk::{HEADER_LEN, encode_header};
use husk_protocol::limits::CHUNK_MAX;

use crate::process::buffer::{OffsetError, OutputBuffer};

/// Bytes in the chunks we send: with its header, a chunk fills a vsock packet of 64 KiB exactly.
const PAYLOAD_MAX: u32 = CHUNK_MAX - 4;

/// A position in a stream of chunks.
#[derive(Debug)]
pub struct ChunkCursor {
    /// The next byte of the output stream to send.
    next: u64,
    /// The header of the chunk under way, and how much of it has been sent.
    header: [u8; HEADER_LEN],
    header_sent: usize,
    /// Bytes of that chunk that are still to be sent behind its header.
    payload_left: usize,
    /// The end-of-stream chunk is the one under way, or was sent.
    ending: bool,
}

impl ChunkCursor {
    /// Starts at byte `offset` of the output stream.
    pub fn new(offset: u64) -> Self {
        Self {
            next: offset,
            header: [0; HEADER_LEN],
            header_sent: HEADER_LEN,
            payload_left: 0,
            ending: false,
        }
    }

    /// Bytes of the output stream that have been sent.
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// True if there is something to send.
    pub fn has_more(&self, buffer: &OutputBuffer, ended: bool) -> bool {
        self.header_sent < HEADER_LEN
            || self.payload_left > 0
            || self.next < buffer.produced()
            || (ended && !self.ending)
    }

    /// The next bytes to send; `None` if there is nothing to send. [`Self::advance`] tells how many
    /// of them were sent.
    ///
    /// # Errors
    /// [`OffsetError`] if the buffer does not hold them, which it does as long as nothing behind
    /// [`Self::sent`] is acknowledged.
    pub fn slices<'a>(
        &'a mut self,
        buffer: &'a OutputBuffer,
        ended: bool,
    ) -> Result<Option<[IoSlice<'a>; 3]>, OffsetError> {
        if !self.has_more(buffer, ended) {
            return Ok(None);
        }
        if self.header_sent == HEADER_LEN && self.payload_left == 0 {
            let available = buffer.produced() - self.next;
            let length = u32::try_from(available).map_or(PAYLOAD_MAX, |all| all.min(PAYLOAD_MAX));
            self.header = encode_header(length).expect("the payload is cut to the limit");
            self.header_sent = 0;
            self.payload_left = length as usize;
            self.ending = length == 0;
        }
        let [first, second] = buffer.bytes(self.next, self.payload_left)?;
        Ok(Some([
            IoSlice::new(&self.header[self.header_sent..]),
            IoSlice::new(first),
            IoSlice::new(second),
        ]))
    }

    /// Takes `count` bytes of [`Self::slices`] as sent.
    pub fn advance(&mut self, count: usize) {
        let of_header = count.min(HEADER_LEN - self.header_sent);
        self.header_sent += of_header;
        let of_payload = count - of_header;
        self.payload_left -= of_payload;
        self.next += of_payload as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use husk_protocol::chunk::decode_header;
    use proptest::prelude::*;

    fn filled(count: usize) -> (OutputBuffer, Vec<u8>) {
        let bytes: Vec<u8> = (0..count).map(|at| u8::try_from(at % 253).unwrap()).collect();
        let mut buffer = OutputBuffer::default();
        buffer.spare()[0][..count].copy_from_slice(&bytes);
        buffer.commit(count);
        (buffer, bytes)
    }

    /// Decodes chunks; returns their bytes and whether the stream was ended.
    fn decode(mut wire: &[u8]) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        while !wire.is_empty() {
            let length = decode_header(wire[..4].try_into().unwrap()).unwrap();
            if length == 0 {
                assert_eq!(wire.len(), 4, "nothing follows the end");
                return (bytes, true);
            }
            bytes.extend_from_slice(&wire[4..4 + length]);
            wire = &wire[4 + length..];
        }
        (bytes, false)
    }

    fn send(cursor: &mut ChunkCursor, buffer: &OutputBuffer, ended: bool, step: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        while let Some(slices) = cursor.slices(buffer, ended).unwrap() {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let count = all.len().min(step);
            wire.extend_from_slice(&all[..count]);
            cursor.advance(count);
        }
        wire
    }

    #[test]
    fn an_ended_empty_stream_is_one_empty_chunk_sent_once() {
        let buffer = OutputBuffer::default();
        let mut cursor = ChunkCursor::new(0);
        assert_eq!(send(&mut cursor, &buffer, false, 9), b"");
        assert_eq!(send(&mut cursor, &buffer, true, 9), [0, 0, 0, 0]);
        assert_eq!(send(&mut cursor, &buffer, true, 9), b"");
    }

    #[test]
    fn a_chunk_with_its_header_fills_a_packet() {
        let (buffer, _) = filled(200_000);
        let mut cursor = ChunkCursor::new(0);
        let slices = cursor.slices(&buffer, false).unwrap().unwrap();
        assert_eq!(slices.iter().map(|slice| slice.len()).sum::<usize>(), 65536);
    }

    proptest! {
        #[test]
        fn any_partial_writes_give_the_same_stream(
            count in 0..300_000_usize, from in 0..300_000_usize, step in 1..70_000_usize,
        ) {
            let from = from.min(count);
            let step = if count > 10_000 { step.max(97) } else { step };
            let (buffer, bytes) = filled(count);
            let mut cursor = ChunkCursor::new(from as u64);
            let wire = send(&mut cursor, &buffer, true, step);
            prop_assert_eq!(decode(&wire), (bytes[from..].to_vec(), true));
            prop_assert_eq!(cursor.sent(), count as u64);
        }
    }
}
