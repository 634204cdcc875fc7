//! Habits of every Rust file: purpose stated, exceptions argued, nothing left for later.

use crate::Breach;
use crate::repository::Repository;
use crate::source::Source;

/// Marks of unfinished work, in pieces so that this file does not hold them.
const UNFINISHED_WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
const UNFINISHED_MACROS: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!(")];

pub(crate) fn lint_exceptions(repository: &Repository) -> Vec<Breach> {
    let law = "every `allow` and `expect` attribute gives a reason";
    repository
        .rust()
        .flat_map(|source| {
            bare_exceptions(&source)
                .into_iter()
                .map(|line| format!("{}:{line}", source.path))
                .collect::<Vec<_>>()
        })
        .map(|place| Breach::new(place, law, "add `reason = \"…\"`, or mend what the lint found"))
        .collect()
}

/// Lines, from 1, of lint attributes without a reason.
fn bare_exceptions(source: &Source<'_>) -> Vec<usize> {
    let mut found = Vec::new();
    for form in ["[allow(", "[expect(", ", allow(", ", expect("] {
        for (at, _) in source.code.match_indices(form) {
            let line_start = source.code[..at].rfind('\n').map_or(0, |end| end + 1);
            let is_attribute = source.code[line_start..=at].trim_start().starts_with('#');
            let end = source.code[at..].find(']').map_or(source.code.len(), |end| at + end);
            if is_attribute && !source.code[at..end].contains("reason =") {
                found.push(source.code[..at].lines().count());
            }
        }
    }
    found
}

pub(crate) fn module_docs(repository: &Repository) -> Vec<Breach> {
    repository
        .ending(".rs")
        .filter(|(_, text)| !text.trim_start().starts_with("//!"))
        .map(|(path, _)| {
            let law = "every module opens with `//!`: what it owns, what it never does";
            Breach::new(path, law, "write its purpose in the first line")
        })
        .collect()
}

pub(crate) fn unfinished(repository: &Repository) -> Vec<Breach> {
    let law = "nothing is left for later: no marks of unfinished work";
    let mut breaches = Vec::new();
    for (path, text) in repository.ending("") {
        if path == "Cargo.lock" || path == "LICENSE" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let word = UNFINISHED_WORDS.iter().any(|word| has_word(line, word));
            let code = UNFINISHED_MACROS.iter().any(|word| line.contains(word));
            if word || code {
                let place = format!("{path}:{}", number + 1);
                breaches.push(Breach::new(
                    place,
                    law,
                    "do it, or say the limit in the documentation",
                ));
            }
        }
    }
    for source in repository.rust() {
        if source.code.contains(concat!("#[ig", "nore]")) {
            let fix = "run it, or skip it at run time with a reason that is printed";
            breaches.push(Breach::new(source.path, "no test is switched off in silence", fix));
        }
    }
    breaches
}

/// True if `word` stands in `line` with no letter or digit beside it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(char::is_alphanumeric)
            && !line[at + word.len()..].starts_with(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_without_a_reason_are_found_on_any_number_of_lines() {
        let text = "#[allow(a)]\n#[expect(\n  b,\n  reason = \"c\"\n)]\n#[cfg_attr(x, allow(d))]\n";
        assert_eq!(bare_exceptions(&Source::new("x.rs", text)), [1, 6]);
    }

    #[test]
    fn marks_inside_longer_words_are_no_marks() {
        assert!(!has_word("mktemp a.XXXXXX", UNFINISHED_WORDS[2]));
        assert!(has_word(&format!("// {}: later", UNFINISHED_WORDS[0]), UNFINISHED_WORDS[0]));
    }
}
