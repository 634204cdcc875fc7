//! Collects the bytes of a frame from a socket that does not block, and not a byte more: what
//! follows may be something else than a frame.

use std::io;

use husk_protocol::frame::{HEADER_LEN, decode_length};

/// Bytes for which room is made at once; a frame's claim is not believed before its bytes come.
const STEP: usize = 64 << 10;

/// Reads one frame after the other.
#[derive(Debug, Default)]
pub struct FrameReader {
    header: [u8; HEADER_LEN],
    header_read: usize,
    body: Vec<u8>,
    body_read: usize,
}

impl FrameReader {
    /// Reads on with `read`. Returns the JSON of a frame that is complete, `None` if the bytes at
    /// hand do not complete one.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] at the end of the connection, [`io::ErrorKind::InvalidData`]
    /// for a frame that is too long, and those of `read`.
    pub fn next(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut some = |buffer: &mut [u8]| match read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        };
        while self.header_read < HEADER_LEN {
            match some(&mut self.header[self.header_read..])? {
                0 => return Ok(None),
                count => self.header_read += count,
            }
        }
        let length = decode_length(self.header)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        while self.body_read < length {
            let end = length.min(self.body_read + STEP);
            self.body.resize(end, 0);
            match some(&mut self.body[self.body_read..end])? {
                0 => return Ok(None),
                count => self.body_read += count,
            }
        }
        let mut frame = std::mem::take(self);
        frame.body.truncate(length);
        Ok(Some(frame.body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use husk_protocol::frame::encode;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_arrive_whole_however_the_bytes_come(
            texts in prop::collection::vec("[a-z]{0,300}", 1..5), step in 1..200_usize,
        ) {
            let wire: Vec<u8> = texts.iter().flat_map(|text| encode(text).unwrap()).collect();
            let mut reader = FrameReader::default();
            let mut at = 0;
            let mut got = Vec::new();
            while at < wire.len() {
                let limit = wire.len().min(at + step);
                let frame = reader.next(|buffer| {
                    let count = buffer.len().min(limit - at);
                    if count == 0 {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    buffer[..count].copy_from_slice(&wire[at..at + count]);
                    at += count;
                    Ok(count)
                }).unwrap();
                got.extend(frame);
            }
            let got: Vec<String> =
                got.iter().map(|json| serde_json::from_slice(json).unwrap()).collect();
            prop_assert_eq!(got, texts);
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_its_bytes() {
        let mut header: &[u8] = &u32::MAX.to_le_bytes();
        let mut reader = FrameReader::default();
        let error = reader.next(|buffer| io::Read::read(&mut header, buffer)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(reader.body.is_empty());
    }

    #[test]
    fn the_end_of_the_connection_is_an_error() {
        let error = FrameReader::default().next(|_| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
