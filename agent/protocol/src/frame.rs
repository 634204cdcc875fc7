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
        .ok_or(FrameError::TooLong { length: bytes.len() as u64 })?;
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
