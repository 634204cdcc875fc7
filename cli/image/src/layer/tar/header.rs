//! One 512-byte tar header.

use tar::{EntryType, Header};

use super::archive::TarError;
use super::input::TAR_BLOCK;
use super::number::parse_field;

/// Offset and length of the checksum field.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// What a header says, before extensions.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) kind: EntryType,
    /// The type as written: some old programs leave it zero.
    pub(super) kind_byte: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) device: (i64, i64),
}

/// Parses a header that is not all zeros.
pub(super) fn parse(block: &[u8; TAR_BLOCK]) -> Result<Fields, TarError> {
    check_sum(block)?;
    let header = Header::from_byte_slice(block);
    let old = header.as_old();
    let number = |name, field: &[u8]| parse_field(field).ok_or(TarError::Number(name));
    let size = number("size", &old.size)?;
    let device = match header.entry_type() {
        EntryType::Char | EntryType::Block => {
            let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
                (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
                (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
                _ => return Err(TarError::Number("device")),
            };
            (number("device", major)?, number("device", minor)?)
        }
        _ => (0, 0),
    };
    Ok(Fields {
        kind: header.entry_type(),
        kind_byte: old.linkflag[0],
        path: header.path_bytes().into_owned(),
        link: until_nul(&old.linkname).to_vec(),
        mode: number("mode", &old.mode)?,
        uid: number("uid", &old.uid)?,
        gid: number("gid", &old.gid)?,
        size: u64::try_from(size).map_err(|_| TarError::Number("size"))?,
        mtime: number("mtime", &old.mtime)?,
        device,
    })
}

/// Checks the sum of the header's bytes, which some programs take as signed.
fn check_sum(block: &[u8; TAR_BLOCK]) -> Result<(), TarError> {
    let stated = parse_field(&block[CHECKSUM]).ok_or(TarError::Checksum)?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (index, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stated == unsigned || stated == signed { Ok(()) } else { Err(TarError::Checksum) }
}

/// A C string's bytes.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
