//! Packet headers (section 5.10.6), read once and checked.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header.
pub const HEADER_LENGTH: usize = size_of::<Wire>();

/// The longest payload: what Linux sends at most.
pub(super) const PAYLOAD_LENGTH_MAX: u32 = 64 << 10;

/// The only socket type offered.
const TYPE_STREAM: u16 = 1;

/// The guest will receive no more (`VIRTIO_VSOCK_SHUTDOWN_RCV`).
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;

/// The guest will send no more (`VIRTIO_VSOCK_SHUTDOWN_SEND`).
pub(super) const SHUTDOWN_SEND: u32 = 2;

/// `struct virtio_vsock_hdr`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Wire {
    src_cid: U64,
    dst_cid: U64,
    src_port: U32,
    dst_port: U32,
    length: U32,
    kind: U16,
    operation: U16,
    flags: U32,
    buf_alloc: U32,
    fwd_cnt: U32,
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub enum Operation {
    /// Opens a connection.
    Request = 1,
    /// Accepts it.
    Response = 2,
    /// Ends or refuses it.
    Reset = 3,
    /// Ends one direction or both.
    Shutdown = 4,
    /// Carries bytes.
    Data = 5,
    /// Tells how much may be sent.
    CreditUpdate = 6,
    /// Asks for that.
    CreditRequest = 7,
}

/// A header in host order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The sender's context ID.
    pub src_cid: u64,
    /// The receiver's context ID.
    pub dst_cid: u64,
    /// The sender's port.
    pub src_port: u32,
    /// The receiver's port.
    pub dst_port: u32,
    /// Bytes of payload, at most 65,536.
    pub length: u32,
    /// What it is for.
    pub operation: Operation,
    /// Of [`Operation::Shutdown`]: which directions.
    pub flags: u32,
    /// Bytes that the sender buffers for this connection.
    pub buf_alloc: u32,
    /// Bytes of it that the sender has taken out of that buffer, modulo 2^32.
    pub fwd_cnt: u32,
}

/// Why a header was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeaderError {
    /// A socket type that was not offered, or an operation that is none: the peer hears a reset.
    #[error("packets of type {kind} with operation {operation} are not supported")]
    Unsupported {
        /// Socket type.
        kind: u16,
        /// Operation.
        operation: u16,
        /// The same header as a reset that came, from which the answer is made.
        reset: Header,
    },
    /// More payload than any packet has.
    #[error("a payload of {0} bytes is too long")]
    TooLong(u32),
}

impl Header {
    /// Reads a header.
    pub fn parse(bytes: [u8; HEADER_LENGTH]) -> Result<Self, HeaderError> {
        let wire: Wire = zerocopy::transmute!(bytes);
        let header = |operation| Self {
            src_cid: wire.src_cid.get(),
            dst_cid: wire.dst_cid.get(),
            src_port: wire.src_port.get(),
            dst_port: wire.dst_port.get(),
            length: wire.length.get(),
            operation,
            flags: wire.flags.get(),
            buf_alloc: wire.buf_alloc.get(),
            fwd_cnt: wire.fwd_cnt.get(),
        };
        let operation = match wire.operation.get() {
            1 => Operation::Request,
            2 => Operation::Response,
            3 => Operation::Reset,
            4 => Operation::Shutdown,
            5 => Operation::Data,
            6 => Operation::CreditUpdate,
            7 => Operation::CreditRequest,
            operation => {
                let (kind, reset) = (wire.kind.get(), header(Operation::Reset));
                return Err(HeaderError::Unsupported { kind, operation, reset });
            }
        };
        if wire.kind.get() != TYPE_STREAM {
            return Err(HeaderError::Unsupported {
                kind: wire.kind.get(),
                operation: wire.operation.get(),
                reset: header(operation),
            });
        }
        if wire.length.get() > PAYLOAD_LENGTH_MAX {
            return Err(HeaderError::TooLong(wire.length.get()));
        }
        Ok(header(operation))
    }

    /// The bytes of this header.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        zerocopy::transmute!(Wire {
            src_cid: self.src_cid.into(),
            dst_cid: self.dst_cid.into(),
            src_port: self.src_port.into(),
            dst_port: self.dst_port.into(),
            length: self.length.into(),
            kind: TYPE_STREAM.into(),
            operation: (self.operation as u16).into(),
            flags: self.flags.into(),
            buf_alloc: self.buf_alloc.into(),
            fwd_cnt: self.fwd_cnt.into(),
        })
    }

    /// The answer to a packet that belongs to no connection; a reset is never answered.
    pub fn refusal(&self) -> Option<Self> {
        (self.operation != Operation::Reset).then_some(Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            length: 0,
            operation: Operation::Reset,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        src_cid: 3,
        dst_cid: 2,
        src_port: 1024,
        dst_port: 0xffff_fffe,
        length: 65_536,
        operation: Operation::Data,
        flags: 1,
        buf_alloc: 4096,
        fwd_cnt: u32::MAX,
    };

    #[test]
    fn a_header_survives_encoding_in_44_bytes() {
        let bytes = HEADER.encode();
        assert_eq!(bytes.len(), 44);
        assert_eq!(bytes[..2], [3, 0]);
        assert_eq!(bytes[28..32], [1, 0, 5, 0]);
        assert_eq!(Header::parse(bytes), Ok(HEADER));
    }

    #[test]
    fn unknown_types_and_operations_are_refused_with_what_a_reset_needs() {
        let mut bytes = HEADER.encode();
        bytes[28] = 2;
        let Err(HeaderError::Unsupported { kind: 2, reset, .. }) = Header::parse(bytes) else {
            panic!("seqpacket was accepted");
        };
        assert_eq!(reset.refusal().unwrap().dst_port, 1024);
        for operation in [0, 8, 0xff] {
            let mut bytes = HEADER.encode();
            bytes[30] = operation;
            assert!(matches!(Header::parse(bytes), Err(HeaderError::Unsupported { .. })));
        }
    }

    #[test]
    fn a_payload_beyond_64_kib_is_refused() {
        let bytes = Header { length: 65_537, ..HEADER }.encode();
        assert_eq!(Header::parse(bytes), Err(HeaderError::TooLong(65_537)));
    }

    #[test]
    fn resets_are_not_answered() {
        assert_eq!(Header { operation: Operation::Reset, ..HEADER }.refusal(), None);
    }
}
