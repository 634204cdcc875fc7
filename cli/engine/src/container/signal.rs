//! Signals by name or number, as `--signal` and `STOPSIGNAL` have them.

/// Linux's numbers on x86-64 and arm64.
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
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

/// The highest signal number (`SIGRTMAX`).
const MAX: i32 = 64;

/// The number of `TERM`, `SIGTERM`, `sigterm` or `15`; `None` if there is no such signal.
pub(crate) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(offset, 34);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(offset, MAX);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn real_time(offset: &str, base: i32) -> Option<i32> {
    let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    base.checked_add(offset).filter(|number| (34..=MAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        for (text, number) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("sigint", Some(2)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("SIGRTMIN-1", None),
            ("SIGNO", None),
            ("", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }
}
