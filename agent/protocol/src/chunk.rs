//! Chunks of a byte stream: a `u32` little-endian length and that many bytes; length 0 ends the
//! stream, which tells an ended stream from a broken connection.

use crate::limits::CHUNK_MAX;

/// Bytes before the payload of a chunk.
pub const HEADER_LEN: usize = 4;

/// A chunk is longer than [`CHUNK_MAX`].
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("chunk of {0} bytes is over the limit of {CHUNK_MAX}")]
pub struct ChunkTooLong(pub u32);

/// Encodes the header of a chunk of `length` bytes; 0 ends the stream.
///
/// # Errors
/// [`ChunkTooLong`] if it is over the limit.
pub fn encode_header(length: u32) -> Result<[u8; HEADER_LEN], ChunkTooLong> {
    if length > CHUNK_MAX {
        return Err(ChunkTooLong(length));
    }
    Ok(length.to_le_bytes())
}

/// Decodes the header of a chunk: how many bytes follow, 0 at the end of the stream.
///
/// # Errors
/// [`ChunkTooLong`] if it is over the limit.
pub fn decode_header(header: [u8; HEADER_LEN]) -> Result<usize, ChunkTooLong> {
    let length = u32::from_le_bytes(header);
    if length > CHUNK_MAX {
        return Err(ChunkTooLong(length));
    }
    Ok(length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_up_to_the_limit_come_back() {
        for length in [0, 1, CHUNK_MAX - 1, CHUNK_MAX] {
            let header = encode_header(length).unwrap();
            assert_eq!(decode_header(header), Ok(length as usize));
        }
    }

    #[test]
    fn lengths_over_the_limit_are_refused_both_ways() {
        for length in [CHUNK_MAX + 1, u32::MAX] {
            assert_eq!(encode_header(length), Err(ChunkTooLong(length)));
            assert_eq!(decode_header(length.to_le_bytes()), Err(ChunkTooLong(length)));
        }
    }

    #[test]
    fn the_header_is_little_endian() {
        assert_eq!(encode_header(0x0102), Ok([2, 1, 0, 0]));
    }
}
