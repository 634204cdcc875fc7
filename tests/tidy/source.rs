//! A Rust file with its comments and literals told apart from its code.

use std::collections::HashSet;

/// A Rust file.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    /// The text with comments and the contents of literals blanked, line for line.
    pub(crate) code: String,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a str, text: &'a str) -> Self {
        Self { path, text, code: blank(text) }
    }

    /// True for code that only tests run.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.starts_with("benches/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// Lines before and after an inline `#[cfg(test)]` module: what ships.
    pub(crate) fn production_lines(&self) -> usize {
        self.code.lines().count() - self.test_lines().len()
    }

    /// The numbers, from 0, of lines in inline test modules.
    pub(crate) fn test_lines(&self) -> HashSet<usize> {
        let mut inside = HashSet::new();
        let mut marked = false;
        let mut depth = 0_usize;
        for (number, line) in self.code.lines().enumerate() {
            let trimmed = line.trim();
            if depth > 0 || (marked && trimmed.contains("mod ") && trimmed.ends_with('{')) {
                inside.insert(number);
                depth += line.matches('{').count();
                depth = depth.saturating_sub(line.matches('}').count());
                marked = false;
            } else if trimmed.starts_with("#[cfg(test)]") {
                marked = true;
            } else if !trimmed.starts_with("#[") {
                marked = false;
            }
        }
        inside
    }
}

/// What the scanner is inside of.
enum Within {
    Code,
    LineComment,
    BlockComment(usize),
    Literal,
    RawLiteral(usize),
}

/// Replaces comments and the contents of literals by spaces and keeps line breaks.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut within = Within::Code;
    let mut at = 0;
    while at < chars.len() {
        let (next, taken, shown) = match within {
            Within::Code => step_code(&chars, at),
            Within::LineComment if chars[at] == '\n' => (Within::Code, 1, false),
            Within::LineComment => (Within::LineComment, 1, false),
            Within::BlockComment(depth) => step_block(&chars, at, depth),
            Within::Literal if chars[at] == '\\' => (Within::Literal, 2, false),
            Within::Literal if chars[at] == '"' => (Within::Code, 1, true),
            Within::Literal => (Within::Literal, 1, false),
            Within::RawLiteral(hashes) if closes_raw(&chars, at, hashes) => {
                (Within::Code, 1 + hashes, true)
            }
            Within::RawLiteral(hashes) => (Within::RawLiteral(hashes), 1, false),
        };
        for &character in &chars[at..(at + taken).min(chars.len())] {
            out.push(if shown || character == '\n' { character } else { ' ' });
        }
        at += taken;
        within = next;
    }
    out
}

/// One step in code: what follows, how many characters were taken, and whether they are code.
fn step_code(chars: &[char], at: usize) -> (Within, usize, bool) {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => (Within::LineComment, 2, false),
        '/' if next == Some('*') => (Within::BlockComment(1), 2, false),
        '"' => (Within::Literal, 1, true),
        'r' if !follows_word(chars, at) || chars[at - 1] == 'b' => {
            match raw_hashes(chars, at + 1) {
                Some(hashes) => (Within::RawLiteral(hashes), 2 + hashes, true),
                None => (Within::Code, 1, true),
            }
        }
        '\'' => {
            (Within::Code, char_literal(chars, at).unwrap_or(1), char_literal(chars, at).is_none())
        }
        _ => (Within::Code, 1, true),
    }
}

fn step_block(chars: &[char], at: usize, depth: usize) -> (Within, usize, bool) {
    match (chars[at], chars.get(at + 1)) {
        ('*', Some('/')) if depth == 1 => (Within::Code, 2, false),
        ('*', Some('/')) => (Within::BlockComment(depth - 1), 2, false),
        ('/', Some('*')) => (Within::BlockComment(depth + 1), 2, false),
        _ => (Within::BlockComment(depth), 1, false),
    }
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

/// The number of `#` before the quote that opens a raw literal at `at`.
fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|character| **character == '#').count();
    (chars.get(at + hashes) == Some(&'"')).then_some(hashes)
}

fn closes_raw(chars: &[char], at: usize, hashes: usize) -> bool {
    chars[at] == '"'
        && chars.len() > at + hashes
        && chars[at + 1..=at + hashes].iter().all(|character| *character == '#')
}

/// The length of a character literal at `at`; `None` for a lifetime.
fn char_literal(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        let close = chars.get(at + 3..)?.iter().position(|character| *character == '\'')?;
        return Some(close + 4);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        let text = "let a = \"un//safe\"; // unsafe\n/* x /* y */ z */ b('\\'', 'c', &'d e)";
        let code = blank(text);
        assert_eq!(code.lines().count(), 2);
        assert!(!code.contains("safe") && !code.contains('z') && code.contains("&'d e"));
    }

    #[test]
    fn raw_literals_end_at_their_own_hashes() {
        assert_eq!(blank("r#\"a\"b\"#;"), "r#\"   \"#;");
    }

    #[test]
    fn inline_tests_do_not_count_as_production() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        assert_eq!(Source::new("x.rs", text).production_lines(), 3);
    }
}
