//! Maps of sparse files: where the bytes that a stream does hold belong.

use super::archive::TarError;
use super::input::{InputError, TAR_BLOCK};
use super::number::{parse_decimal, parse_field};
use crate::layer::limits::SPARSE_SEGMENTS_MAX;

/// A run of data in a sparse file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    /// Where it belongs.
    pub(crate) offset: u64,
    /// Its bytes.
    pub(crate) length: u64,
}

/// What PAX records say of a sparse file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) segments: Option<Vec<Segment>>,
    /// Of a pair of records, the first.
    pub(super) pending_offset: Option<u64>,
}

impl PaxSparse {
    /// Whether the map stands before the data (format 1.0).
    pub(super) fn map_precedes_data(&self) -> bool {
        (self.major, self.minor) == (Some(1), Some(0))
    }

    /// Whether the file is sparse at all.
    pub(super) fn is_sparse(&self) -> bool {
        self.map_precedes_data() || self.segments.is_some()
    }

    pub(super) fn check_pairs(&self) -> Result<(), TarError> {
        if self.pending_offset.is_some() {
            return Err(TarError::Sparse("an offset has no length"));
        }
        match (self.major, self.minor) {
            (None | Some(0), None | Some(0 | 1)) | (Some(1), Some(0)) => Ok(()),
            _ => Err(TarError::Sparse("its format is not 0.0, 0.1 or 1.0")),
        }
    }
}

/// Parses `offset,length,offset,length…` (format 0.1).
pub(super) fn parse_map(value: &[u8]) -> Result<Vec<Segment>, TarError> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let malformed = TarError::Sparse("its map is no list of numbers");
    let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(parse_decimal).collect();
    let Some(numbers) = numbers.filter(|numbers| numbers.len().is_multiple_of(2)) else {
        return Err(malformed);
    };
    Ok(numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
}

/// Parses the pairs in a GNU header or its extension up to the first empty one.
pub(super) fn push_gnu(
    pairs: &[tar::GnuSparseHeader],
    segments: &mut Vec<Segment>,
) -> Result<(), TarError> {
    let number = |field: &[u8; 12]| {
        parse_field(field)
            .and_then(|number| u64::try_from(number).ok())
            .ok_or(TarError::Number("sparse map"))
    };
    for pair in pairs.iter().take_while(|pair| pair.numbytes[0] != 0) {
        segments.push(Segment { offset: number(&pair.offset)?, length: number(&pair.numbytes)? });
    }
    if segments.len() > SPARSE_SEGMENTS_MAX {
        return Err(TarError::Sparse("it has too many segments"));
    }
    Ok(())
}

/// Reads the decimal map before a file's data (format 1.0): numbers on lines of their own, first
/// how many pairs there are, filled up to a whole block.
pub(super) fn read_map(
    mut next_block: impl FnMut() -> Result<[u8; TAR_BLOCK], InputError>,
) -> Result<Vec<Segment>, SparseMapError> {
    let mut pending = Vec::new();
    let mut numbers = Vec::new();
    let mut wanted = 1;
    while numbers.len() < wanted {
        for byte in next_block().map_err(SparseMapError::Input)? {
            match byte {
                b'\n' if numbers.len() < wanted => {
                    let number = parse_decimal(&pending).ok_or(MALFORMED)?;
                    pending.clear();
                    if numbers.is_empty() {
                        wanted = usize::try_from(number)
                            .ok()
                            .filter(|count| *count <= SPARSE_SEGMENTS_MAX)
                            .ok_or(SparseMapError::Tar(TarError::Sparse(
                                "it has too many segments",
                            )))?
                            * 2
                            + 1;
                    }
                    numbers.push(number);
                }
                _ if numbers.len() < wanted => {
                    if pending.len() > 20 {
                        return Err(MALFORMED);
                    }
                    pending.push(byte);
                }
                _ => break,
            }
        }
    }
    let pairs = numbers[1..].chunks_exact(2);
    Ok(pairs.map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
}

const MALFORMED: SparseMapError =
    SparseMapError::Tar(TarError::Sparse("its map is no list of numbers"));

/// Why a map could not be read.
#[derive(Debug)]
pub(super) enum SparseMapError {
    Input(InputError),
    Tar(TarError),
}

/// Checks that segments ascend within `size`, and that they take `stored` bytes of the stream.
pub(super) fn check(segments: &[Segment], size: u64, stored: u64) -> Result<(), TarError> {
    if segments.len() > SPARSE_SEGMENTS_MAX {
        return Err(TarError::Sparse("it has too many segments"));
    }
    let mut end = 0;
    let mut total = 0_u64;
    for segment in segments {
        if segment.offset < end {
            return Err(TarError::Sparse("its segments overlap"));
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .filter(|end| *end <= size)
            .ok_or(TarError::Sparse("a segment ends after the file"))?;
        // No overflow: segments do not overlap and end within `size`.
        total += segment.length;
    }
    if total != stored {
        return Err(TarError::Sparse("its segments do not add up to the stored size"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> impl FnMut() -> Result<[u8; TAR_BLOCK], InputError> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(TAR_BLOCK), 0);
        let blocks: Vec<[u8; TAR_BLOCK]> =
            bytes.chunks_exact(TAR_BLOCK).map(|block| block.try_into().unwrap()).collect();
        let mut blocks = blocks.into_iter();
        move || blocks.next().ok_or(InputError::Truncated)
    }

    #[test]
    fn a_map_before_the_data_is_read_over_block_borders() {
        let pairs: String = (0..200).map(|n| format!("{}\n512\n", n * 1024)).collect();
        let segments = read_map(blocks(&format!("200\n{pairs}"))).unwrap();
        assert_eq!(segments.len(), 200);
        assert_eq!(segments[199], Segment { offset: 199 * 1024, length: 512 });
    }

    #[test]
    fn bad_maps_are_refused() {
        for bad in ["x\n", "99999999\n", "1\n5\n", "\n", "111111111111111111111111111"] {
            assert!(read_map(blocks(bad)).is_err(), "{bad}");
        }
        for bad in ["1", "1,", "1,2,3", "a,b"] {
            assert!(parse_map(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn segments_must_ascend_and_add_up() {
        let segment = |offset, length| Segment { offset, length };
        assert!(check(&[segment(0, 5), segment(5, 5)], 10, 10).is_ok());
        assert!(check(&[segment(0, 5), segment(4, 5)], 10, 10).is_err());
        assert!(check(&[segment(0, 5), segment(5, 6)], 10, 11).is_err());
        assert!(check(&[segment(0, 5)], 10, 6).is_err());
        assert!(check(&[segment(u64::MAX, u64::MAX)], 10, 6).is_err());
    }
}
