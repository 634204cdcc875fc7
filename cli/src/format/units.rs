//! Sizes, times and identifiers in the form that Docker shows.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Decimal units with three significant digits: `4.26MB`.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, 1000, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// Binary units with four significant digits: `1.943GiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

/// Exact until the last step: `digits` significant digits, zeros at the end cut off.
fn scaled(bytes: u64, base: u64, units: &[&str], digits: usize) -> String {
    let mut divisor: u64 = 1;
    let mut unit = 0;
    while bytes / divisor >= base && unit + 1 < units.len() {
        divisor *= base;
        unit += 1;
    }
    let whole = bytes / divisor;
    let decimals = digits.saturating_sub(whole.to_string().len());
    let scale = 10u128.pow(u32::try_from(decimals).expect("a few digits"));
    let (bytes, divisor) = (u128::from(bytes), u128::from(divisor));
    let rounded = (bytes * scale + divisor / 2) / divisor;
    let mut text = (rounded / scale).to_string();
    if decimals > 0 {
        let fraction = format!("{:0decimals$}", rounded % scale);
        let fraction = fraction.trim_end_matches('0');
        if !fraction.is_empty() {
            text = format!("{text}.{fraction}");
        }
    }
    text + units[unit]
}

/// How long ago a unix time was, in one word or two.
pub(crate) fn ago(unix_s: i64, now: Timestamp) -> String {
    format!("{} ago", duration(now.as_second().saturating_sub(unix_s).max(0)))
}

/// A duration in words, rounded as Docker does.
fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..=59, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..=59, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..=47) => format!("{hours} hours"),
        (_, _, 48..=335) => format!("{} days", hours / 24),
        (_, _, 336..=1439) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..=17519) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A unix time in the local time zone: `2006-01-02 15:04:05 -0700 MST`.
pub(crate) fn local_time(unix_s: i64) -> String {
    let time = Timestamp::from_second(unix_s).unwrap_or_default();
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// The first twelve digits of an ID, without its algorithm.
pub(crate) fn short_id(id: &str) -> String {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.chars().take(12).collect()
}

/// At most `width` characters, the last of them an ellipsis if some were cut off.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_significant_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_261_550, "4.26MB"),
            (139_400_000, "139MB"),
            (1_500_000_000, "1.5GB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(binary_size(2_086_000_000), "1.943GiB");
        assert_eq!(binary_size(u64::MAX), "16EiB");
    }

    #[test]
    fn durations_are_in_words() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (21 * 86400, "3 weeks"),
            (90 * 86400, "3 months"),
            (3 * 366 * 86400, "3 years"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn long_things_are_cut() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
    }
}
