//! Signal names as Docker takes them, in `kill` and as a stop signal: `9`, `KILL`, `SIGKILL`,
//! `RTMIN+3`.

use crate::{ApiError, ErrorCode};

/// Linux on x86-64 and arm64: signal numbers by name (signal(7)).
const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and last real-time signal that the C library leaves to programs.
const RT_MIN: i32 = 34;
const RT_MAX: i32 = 64;

/// The number of a signal, 1 to 64.
///
/// # Errors
/// `InvalidArgument` if there is no such signal.
pub fn parse(text: &str) -> Result<i32, ApiError> {
    number(text)
        .ok_or_else(|| ApiError::new(ErrorCode::InvalidArgument, format!("invalid signal: {text}")))
}

fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RT_MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let number = match name.split_at_checked(5)? {
        ("RTMIN", "") => RT_MIN,
        ("RTMAX", "") => RT_MAX,
        ("RTMIN", rest) => RT_MIN + i32::from(rest.strip_prefix('+')?.parse::<u8>().ok()?),
        ("RTMAX", rest) => RT_MAX - i32::from(rest.strip_prefix('-')?.parse::<u8>().ok()?),
        _ => return None,
    };
    (RT_MIN..=RT_MAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for text in ["9", "KILL", "SIGKILL", "sigkill"] {
            assert_eq!(parse(text), Ok(9), "{text}");
        }
        assert_eq!(parse("SIGRTMIN+3"), Ok(37));
        assert_eq!(parse("RTMAX-1"), Ok(63));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["0", "-9", "65", "FOO", "", "RTMIN+99", "RTMIN+x", "ä"] {
            assert_eq!(parse(text).unwrap_err().message, format!("invalid signal: {text}"));
        }
    }
}
