//! Length-prefixed JSON, encoded and decoded over plain bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::FRAME_MAX;

/// Bytes before the JSON of a frame.
pub const HEADER_LEN: usize = 4;

/// Why a frame was refused.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit.
    #[error("frame of {length} bytes is over the limit of {FRAME_MAX}")]
    TooLong {
        /// The length claimed.
        length: u64,
    },
    /// The bytes are not the message expected.
    #[error("frame does not hold the message expected")]
    Malformed(#[source] serde_json::Error),
}

/// Encodes `message` with its length in front.
///
/// # Errors
/// [`FrameError::TooLong`] if its JSON is over [`FRAME_MAX`] bytes.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER_LEN];
    serde_json::to_writer(&mut bytes, message).map_err(FrameError::Malformed)?;
    let length = u32::try_from(bytes.len() - HEADER_LEN)
        .ok()
        .filter(|length| *length <= FRAME_MAX)
        .ok_or(FrameError::TooLong { length: (bytes.len() - HEADER_LEN) as u64 })?;
    bytes[..HEADER_LEN].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Reads a frame's header: the number of bytes of JSON that follow.
///
/// # Errors
/// [`FrameError::TooLong`] if it is over [`FRAME_MAX`].
pub fn decode_length(header: [u8; HEADER_LEN]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header);
    if length > FRAME_MAX {
        return Err(FrameError::TooLong { length: length.into() });
    }
    Ok(length as usize)
}

/// Decodes the JSON of a frame.
///
/// # Errors
/// [`FrameError::Malformed`] if it is not a `T`.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(json).map_err(FrameError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Open, RequestBody};

    /// A text whose JSON, with its two quotes, is `length` bytes long.
    fn text_of(length: u32) -> String {
        "x".repeat(length as usize - 2)
    }

    #[test]
    fn a_frame_of_exactly_the_limit_passes() {
        let bytes = encode(&text_of(FRAME_MAX)).unwrap();
        let (header, json) = bytes.split_first_chunk().unwrap();
        assert_eq!(decode_length(*header).unwrap(), FRAME_MAX as usize);
        assert_eq!(decode::<String>(json).unwrap().len(), FRAME_MAX as usize - 2);
    }

    #[test]
    fn a_frame_one_byte_over_the_limit_is_refused_both_ways() {
        let error = encode(&text_of(FRAME_MAX + 1)).unwrap_err();
        assert_eq!(error.to_string(), "frame of 4194305 bytes is over the limit of 4194304");
        let error = decode_length((FRAME_MAX + 1).to_le_bytes()).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { length } if length == 4_194_305));
        assert!(decode_length(u32::MAX.to_le_bytes()).is_err());
    }

    #[test]
    fn an_empty_frame_has_no_message() {
        assert_eq!(decode_length([0; HEADER_LEN]).unwrap(), 0);
        assert!(matches!(decode::<Open>(b""), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn json_of_another_shape_is_refused() {
        for json in [
            &b"{}"[..],
            b"null",
            b"{\"open\":\"door\"}",
            b"{\"open\":\"control\"}",
            b"{\"open\":\"control\",\"generation\":-1}",
            b"{\"open\":\"control\",\"generation\":1} trailing",
            b"\xff\xfe",
        ] {
            assert!(decode::<Open>(json).is_err(), "{json:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_harm() {
        let json = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(decode::<RequestBody>(&json).is_err());
        assert!(decode::<serde_json::Value>(&json).is_err());
    }
}
