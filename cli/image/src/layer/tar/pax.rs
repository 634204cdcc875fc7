//! PAX extended headers: `length key=value\n` records (POSIX.1-2017, pax, "pax Extended Header").

use super::archive::TarError;
use super::number::{parse_decimal, parse_time};
use super::sparse::{PaxSparse, Segment, parse_map};
use crate::erofs::Timestamp;

/// The records that matter to a layer; an empty value takes a record back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    /// Extended attributes: name and value, in the order of the records.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// Parses all records of one extended header.
///
/// # Errors
/// At the first malformed one: another reader might see what comes after it differently.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Pax, TarError> {
    let mut pax = Pax::default();
    while !bytes.is_empty() {
        let (key, value, rest) = split_record(bytes).ok_or(TarError::PaxRecord)?;
        pax.set(key, value)?;
        bytes = rest;
    }
    pax.sparse.check_pairs()?;
    Ok(pax)
}

/// Splits the first record off: key, value, what follows.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(parse_decimal(&bytes[..blank])?).ok()?;
    let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty()).then_some((key, value, &bytes[length..]))
}

impl Pax {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let number = |name| {
            let parsed = parse_decimal(value).ok_or(TarError::Number(name));
            if value.is_empty() { Ok(None) } else { parsed.map(Some) }
        };
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = number("size")?,
            b"uid" => self.uid = number("uid")?,
            b"gid" => self.gid = number("gid")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(parse_time(value).ok_or(TarError::Number("mtime"))?),
            b"GNU.sparse.major" => self.sparse.major = number("GNU.sparse.major")?,
            b"GNU.sparse.minor" => self.sparse.minor = number("GNU.sparse.minor")?,
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.real_size = number("GNU.sparse.size")?;
            }
            b"GNU.sparse.map" => self.sparse.segments = Some(parse_map(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let value = number("GNU.sparse.map")?.ok_or(TarError::PaxRecord)?;
                self.sparse.push(key == b"GNU.sparse.offset", value)?;
            }
            _ => self.set_xattr(key, value)?,
        }
        Ok(())
    }

    fn set_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let (name, value) = if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            (name.to_vec(), value.to_vec())
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            // Writers that know both forms write both; the first is exact.
            let name = percent_decode(name).ok_or(TarError::PaxRecord)?;
            if self.xattrs.iter().any(|(known, _)| *known == name) {
                return Ok(());
            }
            (name, base64_decode(value).ok_or(TarError::PaxRecord)?)
        } else {
            return Ok(());
        };
        self.xattrs.retain(|(known, _)| *known != name);
        self.xattrs.push((name, value));
        Ok(())
    }
}

/// A path or target; `None` if empty.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, TarError> {
    if value.contains(&0) {
        return Err(TarError::PaxRecord);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// Undoes `%41` for the name of a LIBARCHIVE attribute.
fn percent_decode(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let mut decoded = [0];
            hex::decode_to_slice(digits, &mut decoded).ok()?;
            out.extend_from_slice(&decoded);
            rest = after;
        } else {
            out.push(*byte);
        }
    }
    Some(out)
}

/// Undoes base64 (RFC 4648), with padding or without, as libarchive writes it.
fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    let (digits, padding) = text.split_at(digits);
    if digits.len() % 4 == 1 || padding.len() > 2 || padding.iter().any(|byte| *byte != b'=') {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).expect("eight bits"));
        }
    }
    Some(out)
}

/// Segments as the records state them, for the archive.
impl PaxSparse {
    fn push(&mut self, is_offset: bool, value: u64) -> Result<(), TarError> {
        if is_offset != self.pending_offset.is_none() {
            return Err(TarError::Sparse("offsets and lengths do not alternate"));
        }
        match self.pending_offset.take() {
            None => self.pending_offset = Some(value),
            Some(offset) => {
                self.segments.get_or_insert_default().push(Segment { offset, length: value });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let digits = (1..).find(|n| (body.len() + n).to_string().len() == *n).unwrap();
        [(body.len() + digits).to_string().as_bytes(), &body].concat()
    }

    #[test]
    fn records_are_read_whatever_bytes_their_values_hold() {
        let bytes = [
            record("path", b"a\nb=c"),
            record("SCHILY.xattr.user.x", b"1\0\n=\xff"),
            record("SCHILY.xattr.user.empty", b""),
            record("size", b"8589934592"),
            record("comment", b"ignored"),
        ]
        .concat();
        let pax = parse(&bytes).unwrap();
        assert_eq!(pax.path.unwrap(), b"a\nb=c");
        assert_eq!(pax.size, Some(8_589_934_592));
        assert_eq!(
            pax.xattrs,
            [(b"user.x".to_vec(), b"1\0\n=\xff".to_vec()), (b"user.empty".to_vec(), Vec::new())]
        );
    }

    #[test]
    fn a_malformed_record_is_refused_not_skipped() {
        for bad in [
            b"12 path=ab".as_slice(),
            b"11 path=ab\nx",
            b"10 path=ab\n",
            b"0 a=b\n",
            b"6 ab=\nrest",
            b"5 =b\n",
            b" 7 a=b\n",
            b"+7 a=b\n",
            b"99999999999999999999 a=b\n",
            b"a=b\n",
            b"9 path=a\0\n",
            b"8 size=\x31",
            b"9 size=-1\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(parse(&record("path", b"a\0b")).is_err());
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        let good = [record("path", b"x"), record("LIBARCHIVE.xattr.user.a%20b", b"AAEC")].concat();
        for position in 0..good.len() {
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[position] = byte;
                let _ = parse(&bad);
            }
            let _ = parse(&good[..position]);
        }
    }

    #[test]
    fn libarchive_attributes_are_decoded() {
        let bytes = record("LIBARCHIVE.xattr.user.a%20b", b"AAEC/w");
        let pax = parse(&bytes).unwrap();
        assert_eq!(pax.xattrs, [(b"user.a b".to_vec(), vec![0, 1, 2, 255])]);
        assert_eq!(base64_decode(b"aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(base64_decode(b"aGVs*G8="), None);
    }
}
