//! A connection that feeds standard input: chunks in.

use std::io;
use std::os::fd::BorrowedFd;

use husk_protocol::chunk::{HEADER_LEN, decode_header};
use husk_protocol::limits::CHUNK_MAX;

use super::read_some;
use crate::process::input::InputStream;

/// The receiving side of one connection.
#[derive(Debug)]
pub struct InputSession {
    /// The process's key.
    pub process: u32,
    chunks: ChunkReader,
    buffer: Vec<u8>,
}

impl InputSession {
    /// Feeds the process `process`.
    pub fn new(process: u32) -> Self {
        Self { process, chunks: ChunkReader::default(), buffer: vec![0; CHUNK_MAX as usize] }
    }

    /// Takes what has come and hands it to the process, as far as that has room. Returns whether
    /// anything had come.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the host has gone, and for a chunk that is too long.
    pub fn receive(&mut self, fd: BorrowedFd<'_>, stream: &mut InputStream) -> io::Result<bool> {
        if !stream.has_room() {
            return Ok(false);
        }
        let count = match read_some(fd, &mut self.buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let ended = self.chunks.feed(&self.buffer[..count], |bytes| stream.push(bytes))?;
        if ended {
            stream.end();
        } else {
            stream.flush();
        }
        Ok(true)
    }
}

/// Cuts a stream of chunks into their payloads, without I/O.
#[derive(Debug, Default)]
struct ChunkReader {
    header: [u8; HEADER_LEN],
    header_read: usize,
    payload_left: usize,
}

impl ChunkReader {
    /// Takes bytes as they come and hands out the payload in them. Returns true at the end of the
    /// stream; what follows it is ignored.
    fn feed(&mut self, mut wire: &[u8], mut payload: impl FnMut(&[u8])) -> io::Result<bool> {
        while !wire.is_empty() {
            if self.payload_left > 0 {
                let (bytes, rest) = wire.split_at(self.payload_left.min(wire.len()));
                payload(bytes);
                self.payload_left -= bytes.len();
                wire = rest;
                continue;
            }
            let wanted = HEADER_LEN - self.header_read;
            let (bytes, rest) = wire.split_at(wanted.min(wire.len()));
            self.header[self.header_read..self.header_read + bytes.len()].copy_from_slice(bytes);
            self.header_read += bytes.len();
            wire = rest;
            if self.header_read == HEADER_LEN {
                self.header_read = 0;
                self.payload_left = decode_header(self.header)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if self.payload_left == 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use husk_protocol::chunk::encode_header;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn payloads_arrive_in_order_however_the_bytes_come(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            step in 1..100_usize,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(encode_header(u32::try_from(chunk.len()).unwrap()).unwrap());
                wire.extend(chunk);
            }
            wire.extend([0; 4]);
            let mut reader = ChunkReader::default();
            let mut got = Vec::new();
            let mut ended = false;
            for part in wire.chunks(step) {
                prop_assert!(!ended);
                ended = reader.feed(part, |bytes| got.extend_from_slice(bytes)).unwrap();
            }
            prop_assert!(ended);
            prop_assert_eq!(got, chunks.concat());
        }
    }

    #[test]
    fn a_chunk_over_the_limit_is_refused() {
        let header = (CHUNK_MAX + 1).to_le_bytes();
        assert!(ChunkReader::default().feed(&header, |_| panic!("no payload")).is_err());
    }
}
