//! Errors as clients read them: one line, with all causes.

use std::fmt::Write as _;

/// Characters of a line: a guest or a file may say anything.
const LINE_CHARS_MAX: usize = 2048;

/// Somebody else's words, bounded and on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_CHARS_MAX).collect()
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    one_line(&text)
}
