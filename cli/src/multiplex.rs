//! The framing that keeps standard output and standard error apart on one connection.
//!
//! Engine API, "Attach to a container": `{stream, 0, 0, 0, length as u32 big-endian}` and payload.
//! The decoder is fed bytes as they come and never holds more than one header.

/// Bytes of a frame's header.
pub(crate) const HEADER_LEN: usize = 8;

/// Which output a payload belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Output {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The peer does not speak this framing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unexpected stream number {0} in the daemon's output")]
pub(crate) struct FrameError(u8);

/// The header of a payload of `len` bytes.
pub(crate) fn header(output: Output, len: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = len.to_be_bytes();
    let stream = match output {
        Output::Stdout => 1,
        Output::Stderr => 2,
    };
    [stream, 0, 0, 0, a, b, c, d]
}

/// Takes a multiplexed stream apart, whatever the pieces it comes in.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    header: [u8; HEADER_LEN],
    header_len: usize,
    payload: Option<(Output, usize)>,
}

impl Decoder {
    /// Takes the next payload piece from the front of `bytes`; `None` when all is consumed.
    pub(crate) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<(Output, &'a [u8])>, FrameError> {
        while !bytes.is_empty() {
            if let Some((output, left)) = self.payload {
                let take = left.min(bytes.len());
                let (piece, rest) = bytes.split_at(take);
                *bytes = rest;
                self.payload = (left > take).then_some((output, left - take));
                return Ok(Some((output, piece)));
            }
            self.take_header(bytes)?;
        }
        Ok(None)
    }

    /// Collects header bytes; a whole header names the payload that follows.
    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<(), FrameError> {
        let take = (HEADER_LEN - self.header_len).min(bytes.len());
        let (piece, rest) = bytes.split_at(take);
        self.header[self.header_len..self.header_len + take].copy_from_slice(piece);
        self.header_len += take;
        *bytes = rest;
        if self.header_len < HEADER_LEN {
            return Ok(());
        }
        self.header_len = 0;
        let [stream, _, _, _, a, b, c, d] = self.header;
        let output = match stream {
            // Stream 0 is standard input echoed back by old daemons, on standard output.
            0 | 1 => Output::Stdout,
            2 => Output::Stderr,
            other => return Err(FrameError(other)),
        };
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        self.payload = (len > 0).then_some((output, len));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), FrameError> {
        let (mut decoder, mut out, mut err) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while let Some((output, bytes)) = decoder.next(&mut rest)? {
                match output {
                    Output::Stdout => out.extend_from_slice(bytes),
                    Output::Stderr => err.extend_from_slice(bytes),
                }
            }
        }
        Ok((out, err))
    }

    #[test]
    fn a_header_names_stream_and_length() {
        assert_eq!(header(Output::Stderr, 0x0102_0304), [2, 0, 0, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_unknown_stream_is_an_error() {
        assert_eq!(decode(&[&[7, 0, 0, 0, 0, 0, 0, 1, b'x']]), Err(FrameError(7)));
    }

    #[test]
    fn an_empty_frame_carries_nothing() {
        assert_eq!(decode(&[&header(Output::Stdout, 0)]), Ok((Vec::new(), Vec::new())));
    }

    proptest! {
        #[test]
        fn what_was_framed_comes_apart_however_it_is_cut(
            frames in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            cut in 1usize..50,
        ) {
            let (mut wire, mut out, mut err) = (Vec::new(), Vec::new(), Vec::new());
            for (stderr, payload) in &frames {
                let output = if *stderr { Output::Stderr } else { Output::Stdout };
                wire.extend(header(output, u32::try_from(payload.len()).unwrap()));
                wire.extend(payload);
                if *stderr { err.extend(payload) } else { out.extend(payload) }
            }
            let pieces: Vec<&[u8]> = wire.chunks(cut).collect();
            prop_assert_eq!(decode(&pieces), Ok((out, err)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&[&bytes]);
        }
    }
}
