//! Numbers with units: memory sizes and CPU shares, as Docker reads them.

/// A number that is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum QuantityError {
    /// Not a size.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// Not a number of CPUs.
    #[error("failed to parse {0} as a rational number")]
    Cpus(String),
    /// Finer than the kernel counts.
    #[error("value is too precise: {0}")]
    Precise(String),
}

/// Bytes: a decimal number, then `b`, `k`, `m`, `g`, `t` or `p` (powers of 1024), `ib` or `b`.
pub(crate) fn bytes(text: &str) -> Result<i64, QuantityError> {
    parse_bytes(text).ok_or_else(|| QuantityError::Size(text.to_owned()))
}

fn parse_bytes(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, unit) = lower.split_at(end.unwrap_or(lower.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let shift = match unit {
        "" | "b" => 0,
        _ => {
            let power = "kmgtp".find(unit.chars().next()?)? + 1;
            if !matches!(&unit[1..], "" | "b" | "ib") {
                return None;
            }
            10 * u32::try_from(power).ok()?
        }
    };
    decimal(number, 1i128 << shift)
}

/// Billionths of a CPU for `--cpus 1.5`.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, QuantityError> {
    const NANO: i128 = 1_000_000_000;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    if fraction.trim_end_matches('0').len() > 9 {
        return Err(QuantityError::Precise(text.to_owned()));
    }
    decimal(text, NANO).ok_or_else(|| QuantityError::Cpus(text.to_owned()))
}

/// `digits[.digits]` times `unit`, rounded down, without going through floating point.
fn decimal(text: &str, unit: i128) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(18)];
    let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<i128>() };
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = number(whole).ok()?.checked_mul(unit)?;
    let part = number(fraction).ok()?.checked_mul(unit)? / scale;
    i64::try_from(whole.checked_add(part)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_dockers_units() {
        for (text, expected) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("1k", 1024),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("1.5g", 3 << 29),
            ("1GiB", 1 << 30),
            ("1 gb", 1 << 30),
            ("2t", 2 << 40),
            (".5k", 512),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_size() {
        for text in ["", "m", "-1", "1x", "1mm", "1.2.3", "1ib", "9999999999999p", "1  k", "ä"] {
            assert_eq!(bytes(text), Err(QuantityError::Size(text.into())));
        }
    }

    #[test]
    fn cpus_have_nine_digits() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus("0.000000001"), Ok(1));
        assert!(matches!(nano_cpus("0.0000000001"), Err(QuantityError::Precise(_))));
        assert!(matches!(nano_cpus("two"), Err(QuantityError::Cpus(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = bytes(&text);
            let _ = nano_cpus(&text);
        }
    }
}
