//! Records of a container's log file: encoded and decoded over plain bytes.
//!
//! ```text
//! u32 payload length | u8 kind | i64 time, ns since 1970 | u32 CRC-32 of all else | payload
//! ```
//!
//! All little endian. Lossless: payloads are the bytes as they came, lines or not. A record that
//! a kill -9 left half written fails its length or checksum, and the log ends before it.

use crate::limits::LOG_PAYLOAD_MAX;

/// Bytes before the payload.
pub(crate) const HEADER_LEN: usize = 17;

/// What a record holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A run starts: counting of stream bytes begins anew. No payload.
    RunStart,
    /// Bytes of standard output, or of the terminal.
    Stdout,
    /// Bytes of standard error.
    Stderr,
    /// Standard output lost bytes here, as the disk was full. Payload: how many, as `u64`.
    StdoutGap,
    /// The same of standard error.
    StderrGap,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::RunStart => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::StdoutGap => 3,
            Self::StderrGap => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::RunStart, Self::Stdout, Self::Stderr, Self::StdoutGap, Self::StderrGap]
            .into_iter()
            .find(|kind| kind.to_byte() == byte)
    }
}

/// The part before the payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// Bytes of payload.
    pub(crate) length: usize,
    /// What they are.
    pub(crate) kind: Kind,
    /// When they were stored.
    pub(crate) time_unix_ns: i64,
    checksum: u32,
}

/// Encodes a record. `payload` is at most [`LOG_PAYLOAD_MAX`] bytes.
pub(crate) fn encode(kind: Kind, time_unix_ns: i64, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= LOG_PAYLOAD_MAX, "the caller splits longer payloads");
    let length = u32::try_from(payload.len()).expect("LOG_PAYLOAD_MAX fits");
    let mut record = Vec::with_capacity(HEADER_LEN + payload.len());
    record.extend_from_slice(&length.to_le_bytes());
    record.push(kind.to_byte());
    record.extend_from_slice(&time_unix_ns.to_le_bytes());
    record.extend_from_slice(&checksum(&record, payload).to_le_bytes());
    record.extend_from_slice(payload);
    record
}

/// Decodes the part before the payload; `None` if no record starts so.
pub(crate) fn decode_header(bytes: &[u8; HEADER_LEN]) -> Option<Header> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let length = usize::try_from(word(0)).ok().filter(|length| *length <= LOG_PAYLOAD_MAX)?;
    let mut time = [0; 8];
    time.copy_from_slice(&bytes[5..13]);
    Some(Header {
        length,
        kind: Kind::from_byte(bytes[4])?,
        time_unix_ns: i64::from_le_bytes(time),
        checksum: word(13),
    })
}

/// Whether `payload` is the one that was written behind this header.
pub(crate) fn is_intact(header: &Header, bytes: &[u8; HEADER_LEN], payload: &[u8]) -> bool {
    payload.len() == header.length && checksum(&bytes[..13], payload) == header.checksum
}

fn checksum(start: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(start);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header_of(record: &[u8]) -> [u8; HEADER_LEN] {
        record[..HEADER_LEN].try_into().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            payload in proptest::collection::vec(any::<u8>(), 0..2000),
            time in any::<i64>(),
            kind in (0_u8..5).prop_map(|byte| Kind::from_byte(byte).unwrap()),
        ) {
            let record = encode(kind, time, &payload);
            let bytes = header_of(&record);
            let header = decode_header(&bytes).unwrap();
            prop_assert_eq!((header.length, header.kind, header.time_unix_ns),
                (payload.len(), kind, time));
            prop_assert!(is_intact(&header, &bytes, &record[HEADER_LEN..]));
        }

        #[test]
        fn one_changed_byte_is_noticed(
            payload in proptest::collection::vec(any::<u8>(), 1..200),
            at in any::<prop::sample::Index>(),
            change in 1_u8..=255,
        ) {
            let mut record = encode(Kind::Stdout, 5, &payload);
            let at = at.index(record.len());
            record[at] ^= change;
            let bytes = header_of(&record);
            let intact = decode_header(&bytes)
                .is_some_and(|header| is_intact(&header, &bytes, &record[HEADER_LEN..]));
            prop_assert!(!intact);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<[u8; HEADER_LEN]>()) {
            let _ = decode_header(&bytes);
        }
    }
}
