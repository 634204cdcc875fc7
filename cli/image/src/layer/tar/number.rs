//! Numbers in tar headers and PAX records.

use crate::erofs::Timestamp;

/// Parses a header's number: octal digits in blanks and NULs, or, by GNU's extension, a
/// two's-complement binary number of which the first byte's top bit is the mark.
///
/// `None` if it is neither, or does not fit.
pub(super) fn parse_field(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign; twelve bytes cannot overflow 128 bits.
        let negative = first & 0x40 != 0;
        let start = if negative { -1 } else { i128::from(first & 0x7f) };
        let value = field[1..].iter().try_fold(start, |value: i128, byte| {
            value.checked_mul(256)?.checked_add(i128::from(*byte))
        })?;
        let exact = !negative || first == 0xff;
        return i64::try_from(value).ok().filter(|_| exact);
    }
    let is_blank = |byte: &u8| matches!(byte, 0 | b' ');
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(is_blank) {
        return None;
    }
    digits[..end].iter().try_fold(0_i64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

/// Parses a PAX record's number: decimal digits and nothing else.
pub(super) fn parse_decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |total, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        total.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Parses a PAX record's time: decimal seconds, perhaps negative, perhaps with a fraction, of
/// which nine digits count.
pub(super) fn parse_time(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(parse_decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |total, digit| total * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds },
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_numbers_are_octal_in_blanks() {
        for (field, expected) in [
            (b"0000644\0".as_slice(), Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"", None),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"0008\0", None),
            (b"12\x0034\0", None),
            (b"-1\0", None),
        ] {
            assert_eq!(parse_field(field), expected, "{field:?}");
        }
    }

    #[test]
    fn header_numbers_may_be_binary() {
        let binary = |value: i64, length: usize| {
            let mut bytes = vec![if value < 0 { 0xff } else { 0 }; length - 8];
            bytes.extend_from_slice(&value.to_be_bytes());
            bytes[0] |= 0x80;
            bytes
        };
        for value in [0, 1, -1, -1_500_000_000, i64::MAX, i64::MIN, 1 << 33] {
            assert_eq!(parse_field(&binary(value, 12)), Some(value));
        }
        assert_eq!(parse_field(&[0x80, 0, 0, 0, 0, 1, 0, 0]), Some(1 << 16));
        assert_eq!(parse_field(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse_field(&[0xbf; 12]), None);
        assert_eq!(parse_field(&[0xc0; 12]), None);
    }

    #[test]
    fn times_are_exact_to_the_nanosecond() {
        let time = |seconds, nanoseconds| Some(Timestamp { seconds, nanoseconds });
        assert_eq!(parse_time(b"1700000000.123456789"), time(1_700_000_000, 123_456_789));
        assert_eq!(parse_time(b"1.5"), time(1, 500_000_000));
        assert_eq!(parse_time(b"1.0000000019"), time(1, 1));
        assert_eq!(parse_time(b"-1.5"), time(-2, 500_000_000));
        assert_eq!(parse_time(b"-1"), time(-1, 0));
        assert_eq!(parse_time(b"7."), time(7, 0));
        for bad in [b"".as_slice(), b"-", b".5", b"1.x", b"1e5", b"99999999999999999999", b"+1"] {
            assert_eq!(parse_time(bad), None, "{bad:?}");
        }
    }
}
