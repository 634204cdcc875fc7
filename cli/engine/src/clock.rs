//! Wall-clock time as the state and the API hold it: nanoseconds since 1970, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// The time Docker shows for something that has not happened.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Now, in nanoseconds since 1970.
pub(crate) fn now_unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// RFC 3339 with nanoseconds, as the Engine API has it; `None` is [`NEVER`].
pub(crate) fn rfc3339(unix_ns: Option<i64>) -> String {
    unix_ns
        .and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok())
        .map_or_else(|| NEVER.to_owned(), |time| format!("{time:.9}"))
}

/// A span in words, as Docker's listings have it (`About a minute`, `3 hours`).
pub(crate) fn in_words(span_ns: i64) -> String {
    let seconds = span_ns.max(0) / 1_000_000_000;
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_in_docker() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (47 * 3600, "47 hours"),
            (3 * 86_400, "3 days"),
            (15 * 86_400, "2 weeks"),
            (90 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(in_words(seconds * 1_000_000_000), words, "{seconds} s");
        }
    }

    #[test]
    fn times_have_nine_digits_and_a_zone() {
        assert_eq!(rfc3339(Some(1_500_000_000)), "1970-01-01T00:00:01.500000000Z");
        assert_eq!(rfc3339(None), NEVER);
    }
}
