//! Names in the field's terms, and none that only one machine knows.

use crate::Breach;
use crate::repository::Repository;
use crate::source::Source;

/// File and folder names that say nothing about what is inside.
const BANNED_FILES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// Words that no declared name of ours holds.
const BANNED_WORDS: &[&str] = &[
    "box",
    "boxes",
    "common",
    "helper",
    "helpers",
    "instance",
    "instances",
    "manager",
    "managers",
    "misc",
    "util",
    "utils",
];

/// What introduces a declared name.
const DECLARATIONS: &[&str] = &[
    "const",
    "enum",
    "fn",
    "let",
    "macro_rules!",
    "mod",
    "mut",
    "static",
    "struct",
    "trait",
    "type",
];

/// Parts of paths and names that exist on one machine only, in pieces so that this file lacks them.
const MACHINE_NAMES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/tmp/ba", "sh_jobs"),
    concat!("COMM", "ON.md"),
    concat!("issues ", "show"),
];

pub(crate) fn check(repository: &Repository) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for path in repository.texts.keys() {
        let stems = path.split('/').map(|part| part.split('.').next().unwrap_or(part));
        if stems.into_iter().any(|stem| BANNED_FILES.contains(&stem)) {
            let law = "no file or folder is a drawer for leftovers";
            breaches.push(Breach::new(path, law, "name it after what it holds"));
        }
    }
    for source in repository.rust() {
        for (line, name) in banned_names(&source) {
            let law = "declared names use the vocabulary of README.md";
            let place = format!("{}:{line} `{name}`", source.path);
            breaches.push(Breach::new(place, law, "say what it is or does"));
        }
    }
    breaches
}

/// Declared names that hold a banned word, with their lines from 1.
fn banned_names(source: &Source<'_>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in source.code.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let name =
                pair[1].split(|character: char| !(character.is_alphanumeric() || character == '_'));
            let name = name.into_iter().next().unwrap_or("");
            let declared = DECLARATIONS.contains(&pair[0].trim_start_matches('('));
            if declared && words_of(name).iter().any(|word| BANNED_WORDS.contains(&word.as_str())) {
                found.push((number + 1, name.to_owned()));
            }
        }
    }
    found
}

/// The words of a name in snake_case, CamelCase or UPPER_CASE, in lower case.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_lower = false;
    for character in name.chars() {
        if character == '_' || (character.is_uppercase() && previous_lower) {
            words.push(String::new());
        }
        if character != '_' {
            let last = words.last_mut().expect("there is always a word");
            last.extend(character.to_lowercase());
        }
        previous_lower = character.is_lowercase() || character.is_ascii_digit();
    }
    words
}

pub(crate) fn machine_names(repository: &Repository) -> Vec<Breach> {
    let law = "files name no path or tool that only one machine has";
    let mut breaches = Vec::new();
    for (path, text) in &repository.texts {
        for (number, line) in text.lines().enumerate() {
            if MACHINE_NAMES.iter().any(|name| line.contains(name)) {
                let place = format!("{path}:{}", number + 1);
                breaches.push(Breach::new(
                    place,
                    law,
                    "use a path relative to the checkout, or a variable",
                ));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_words_are_found_in_every_case_but_not_inside_words() {
        let text =
            "struct VmManager;\nfn busybox() {}\nlet my_box = Box::new(1);\nconst UTIL: u8 = 0;";
        let names: Vec<String> =
            banned_names(&Source::new("x.rs", text)).into_iter().map(|found| found.1).collect();
        assert_eq!(names, ["VmManager", "my_box", "UTIL"]);
    }
}
