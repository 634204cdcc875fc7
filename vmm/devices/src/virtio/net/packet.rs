//! The header of a frame as the driver wrote it (section 5.1.6), read once and checked.
//!
//! The host's kernel checks what it is handed as well; what it gets to see is only what this
//! module has understood.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
};

use super::{ETHERNET_LENGTH, HEADER_LENGTH};

/// The work that a driver leaves to the host.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Header {
    /// Where to put the checksum, if it is missing.
    pub checksum: Option<Checksum>,
    /// How to cut the frame, if it is too long.
    pub segments: Option<Segments>,
}

/// A checksum that is missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checksum {
    /// Bytes of the frame before the first that counts.
    pub start: u16,
    /// Bytes from there to the checksum's place.
    pub offset: u16,
}

/// A frame that stands for many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segments {
    /// `VIRTIO_NET_HDR_GSO_TCPV4` or `…_TCPV6`.
    pub kind: u8,
    /// Bytes of payload of each, at least 1.
    pub size: u16,
    /// Bytes of all headers, for the host a hint.
    pub header_length: u16,
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeaderError {
    /// The driver uses what it has not accepted.
    #[error("the frame needs work that was not negotiated")]
    NotNegotiated,
    /// A checksum outside the frame, or within its Ethernet header.
    #[error("the checksum lies outside the frame")]
    Checksum,
    /// Segments of no size, without a checksum, or with headers longer than the frame.
    #[error("the frame cannot be cut")]
    Segments,
}

impl Header {
    /// Reads the header of a frame of `frame_length` bytes, under the accepted `features`.
    pub fn parse(
        bytes: [u8; HEADER_LENGTH],
        frame_length: usize,
        features: u64,
    ) -> Result<Self, HeaderError> {
        let word = |place: usize| u16::from_le_bytes([bytes[place], bytes[place + 1]]);
        let accepted = |feature: u32| features & 1 << feature != 0;
        // Other flags mean nothing in this direction, and are to be ignored.
        let checksum = if u32::from(bytes[0]) & VIRTIO_NET_HDR_F_NEEDS_CSUM == 0 {
            None
        } else {
            if !accepted(VIRTIO_NET_F_CSUM) {
                return Err(HeaderError::NotNegotiated);
            }
            let (start, offset) = (word(6), word(8));
            let end = usize::from(start) + usize::from(offset) + 2;
            if usize::from(start) < ETHERNET_LENGTH || end > frame_length {
                return Err(HeaderError::Checksum);
            }
            Some(Checksum { start, offset })
        };
        let feature = match u32::from(bytes[1]) {
            VIRTIO_NET_HDR_GSO_NONE => return Ok(Self { checksum, segments: None }),
            VIRTIO_NET_HDR_GSO_TCPV4 => VIRTIO_NET_F_HOST_TSO4,
            VIRTIO_NET_HDR_GSO_TCPV6 => VIRTIO_NET_F_HOST_TSO6,
            _ => return Err(HeaderError::NotNegotiated),
        };
        if !accepted(feature) {
            return Err(HeaderError::NotNegotiated);
        }
        let segments = Segments { kind: bytes[1], header_length: word(2), size: word(4) };
        if segments.size == 0
            || checksum.is_none()
            || usize::from(segments.header_length) > frame_length
        {
            return Err(HeaderError::Segments);
        }
        Ok(Self { checksum, segments: Some(segments) })
    }

    /// The bytes that the host gets.
    pub fn encode(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        let mut put = |place: usize, word: u16| {
            bytes[place..place + 2].copy_from_slice(&word.to_le_bytes());
        };
        if let Some(Checksum { start, offset }) = self.checksum {
            put(6, start);
            put(8, offset);
        }
        if let Some(Segments { header_length, size, .. }) = self.segments {
            put(2, header_length);
            put(4, size);
        }
        let needed = u8::try_from(VIRTIO_NET_HDR_F_NEEDS_CSUM).expect("it is 1");
        bytes[0] = if self.checksum.is_some() { needed } else { 0 };
        bytes[1] = self.segments.map_or(0, |segments| segments.kind);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: u64 =
        1 << VIRTIO_NET_F_CSUM | 1 << VIRTIO_NET_F_HOST_TSO4 | 1 << VIRTIO_NET_F_HOST_TSO6;

    /// TCP over IPv4 with 54 bytes of headers.
    const SOUND: [u8; HEADER_LENGTH] = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];

    #[test]
    fn a_sound_header_is_passed_on_as_it_is() {
        let header = Header::parse(SOUND, 3000, ALL).unwrap();
        assert_eq!(header.encode(), SOUND);
        assert_eq!(Header::parse([0; HEADER_LENGTH], 14, 0), Ok(Header::default()));
    }

    #[test]
    fn what_means_nothing_is_not_passed_on() {
        let noise = [0xfe, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
        assert_eq!(Header::parse(noise, 60, ALL).unwrap().encode(), [0; HEADER_LENGTH]);
    }

    #[test]
    fn what_was_not_negotiated_is_refused() {
        let without = |feature: u32| Header::parse(SOUND, 3000, ALL & !(1 << feature));
        assert_eq!(without(VIRTIO_NET_F_CSUM), Err(HeaderError::NotNegotiated));
        assert_eq!(without(VIRTIO_NET_F_HOST_TSO4), Err(HeaderError::NotNegotiated));
        // UDP fragmentation, UDP segmentation, and congestion marks.
        for kind in [3, 5, 0x81, 0xff] {
            let mut bytes = SOUND;
            bytes[1] = kind;
            assert_eq!(Header::parse(bytes, 3000, ALL), Err(HeaderError::NotNegotiated));
        }
    }

    #[test]
    fn what_points_outside_the_frame_is_refused() {
        let with = |place: usize, value: u8| {
            let mut bytes = SOUND;
            bytes[place] = value;
            Header::parse(bytes, 200, ALL)
        };
        assert_eq!(with(7, 0xff), Err(HeaderError::Checksum));
        assert_eq!(with(8, 165), Err(HeaderError::Checksum));
        assert_eq!(with(6, 13), Err(HeaderError::Checksum));
        assert_eq!(with(2, 201), Err(HeaderError::Segments));
        assert_eq!(with(0, 0), Err(HeaderError::Segments));
        let mut bytes = SOUND;
        (bytes[4], bytes[5]) = (0, 0);
        assert_eq!(Header::parse(bytes, 200, ALL), Err(HeaderError::Segments));
    }

    proptest! {
        #[test]
        fn whatever_passes_stays_within_the_frame_and_passes_again(
            bytes: [u8; HEADER_LENGTH],
            length in 14_usize..66_000,
            features: u64,
        ) {
            if let Ok(header) = Header::parse(bytes, length, features) {
                if let Some(Checksum { start, offset }) = header.checksum {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= length);
                }
                prop_assert_eq!(Header::parse(header.encode(), length, features), Ok(header));
            }
        }
    }
}
