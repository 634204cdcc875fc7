//! How a [`VmConfig`](crate::VmConfig) and its file descriptors reach `husk-vmm run`.
//!
//! The channel is a connected unix *stream* socket, `husk-vmm`'s standard input. It flows one
//! way, from the engine to the VMM:
//!
//! | part | bytes | holds |
//! |---|---|---|
//! | header | [`HEADER_LENGTH`] | four little-endian `u32`: [`MAGIC`], [`VERSION`], JSON length, descriptor count |
//! | document | JSON length | the [`VmConfig`](crate::VmConfig) as UTF-8 JSON, at most [`DOCUMENT_LENGTH_MAX`] bytes |
//! | batches | 1 each | one zero byte, with up to [`FDS_PER_BATCH`] descriptors as one `SCM_RIGHTS` message |
//!
//! Every batch but the last is full: batch `i` carries the [`batch_length`] descriptors from
//! index `i * FDS_PER_BATCH` on, in the order that [`FdIndex`](crate::FdIndex) counts them. No
//! descriptors, no batch. Header and document carry no descriptors, and may be written together
//! or in pieces; a batch is one `sendmsg` of one byte, since the kernel ties descriptors to the
//! bytes they were sent with.
//!
//! The receiver answers nothing here. What follows is told on the control socket, and in the
//! report file; a handover that breaks off before those are known ends `husk-vmm` with status 1
//! and one line on standard error. Either side may close once the last batch is sent: a microVM
//! outlives the engine that started it.
//!
//! Both sides need room: the sender's descriptors in flight count against its `RLIMIT_NOFILE`
//! (unless it is privileged), the received ones against the receiver's, which raises its own soft
//! limit first. This module does no I/O; both ends share its constants and pure functions.

/// First field of the header: `husk` read as little-endian bytes.
pub const MAGIC: u32 = u32::from_le_bytes(*b"husk");

/// Second field of the header: the generation of [`VmConfig`](crate::VmConfig) and this format.
pub const VERSION: u32 = 2;

/// Bytes of the header.
pub const HEADER_LENGTH: usize = 16;

/// The longest document, 1 MiB: what a VMM reads before it has judged anything stays small.
pub const DOCUMENT_LENGTH_MAX: usize = 1 << 20;

/// Descriptors of one batch: below the kernel's `SCM_MAX_FD` of 253.
pub const FDS_PER_BATCH: usize = 250;

/// The most descriptors of one microVM: every segment of every disk, and room for the rest.
pub const FDS_MAX: usize = 1200;

/// The fixed part that precedes the document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Bytes of JSON that follow, 1 to [`DOCUMENT_LENGTH_MAX`].
    pub document_length: usize,
    /// Descriptors that follow the document, at most [`FDS_MAX`].
    pub fd_count: usize,
}

/// Why a header was refused, by the sender as by the receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeaderError {
    /// The other side is no engine of ours.
    #[error("the handover starts with {found:#010x}, not with the mark of husk")]
    Magic {
        /// What stood in its place.
        found: u32,
    },
    /// The other side is of another generation.
    #[error("the handover is of version {found}, this side speaks {VERSION}: restart the daemon")]
    Version {
        /// The other side's version.
        found: u32,
    },
    /// The document is empty or too long.
    #[error("the configuration is {length} bytes long, outside 1 to {DOCUMENT_LENGTH_MAX}")]
    DocumentLength {
        /// Its length in bytes.
        length: u64,
    },
    /// More descriptors than any microVM needs.
    #[error("the configuration comes with {count} descriptors, more than {FDS_MAX}")]
    FdCount {
        /// How many were announced.
        count: u64,
    },
}

impl Header {
    /// Checks both lengths against their limits.
    pub fn new(document_length: usize, fd_count: usize) -> Result<Self, HeaderError> {
        if document_length == 0 || document_length > DOCUMENT_LENGTH_MAX {
            return Err(HeaderError::DocumentLength { length: document_length as u64 });
        }
        if fd_count > FDS_MAX {
            return Err(HeaderError::FdCount { count: fd_count as u64 });
        }
        Ok(Self { document_length, fd_count })
    }

    /// The bytes that go first.
    pub fn encode(self) -> [u8; HEADER_LENGTH] {
        let number = |n: usize| u32::try_from(n).expect("both are bounded by new()");
        let fields = [MAGIC, VERSION, number(self.document_length), number(self.fd_count)];
        let mut bytes = [0; HEADER_LENGTH];
        for (place, field) in bytes.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads and checks those bytes.
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Result<Self, HeaderError> {
        let field = |index: usize| {
            let place = &bytes[index * 4..index * 4 + 4];
            u32::from_le_bytes(place.try_into().expect("the slice is four bytes long"))
        };
        if field(0) != MAGIC {
            return Err(HeaderError::Magic { found: field(0) });
        }
        if field(1) != VERSION {
            return Err(HeaderError::Version { found: field(1) });
        }
        Self::new(field(2) as usize, field(3) as usize)
    }

    /// How many batches follow the document.
    pub fn batch_count(self) -> usize {
        self.fd_count.div_ceil(FDS_PER_BATCH)
    }
}

/// How many descriptors the batch holds that starts after `done` of `fd_count`.
pub fn batch_length(fd_count: usize, done: usize) -> usize {
    fd_count.saturating_sub(done).min(FDS_PER_BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_encoding() {
        for (document_length, fd_count) in [(1, 0), (513, 250), (DOCUMENT_LENGTH_MAX, FDS_MAX)] {
            let header = Header::new(document_length, fd_count).unwrap();
            assert_eq!(Header::decode(header.encode()), Ok(header));
        }
    }

    #[test]
    fn the_layout_is_four_little_endian_words() {
        let bytes = Header::new(0x1234, 3).unwrap().encode();
        assert_eq!(&bytes, b"husk\x02\0\0\0\x34\x12\0\0\x03\0\0\0");
    }

    #[test]
    fn lengths_beyond_the_limits_are_refused() {
        let mut bytes = Header::new(7, 7).unwrap().encode();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            Header::decode(bytes),
            Err(HeaderError::DocumentLength { length: u64::from(u32::MAX) })
        );
        let mut bytes = Header::new(7, 7).unwrap().encode();
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::decode(bytes), Err(HeaderError::FdCount { count: u64::from(u32::MAX) }));
        assert_eq!(Header::new(0, 0), Err(HeaderError::DocumentLength { length: 0 }));
    }

    #[test]
    fn strangers_and_other_generations_are_told_apart() {
        assert!(matches!(Header::decode([0; HEADER_LENGTH]), Err(HeaderError::Magic { found: 0 })));
        let mut bytes = Header::new(7, 7).unwrap().encode();
        bytes[4] = 9;
        assert_eq!(Header::decode(bytes), Err(HeaderError::Version { found: 9 }));
    }

    #[test]
    fn batches_hold_all_descriptors_and_only_the_last_is_short() {
        for count in [0, 1, 249, 250, 251, 500, 1104] {
            let header = Header::new(1, count).unwrap();
            let mut done = 0;
            for batch in 0..header.batch_count() {
                let length = batch_length(count, done);
                assert!(
                    length > 0 && (length == FDS_PER_BATCH || batch + 1 == header.batch_count())
                );
                done += length;
            }
            assert_eq!(done, count);
        }
    }
}
