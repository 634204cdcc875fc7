//! The laws of this repository that a machine can hold.
//!
//! Needs no privilege and under a second. Every failure names the place, the law and the fix.

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/kernel.rs"]
mod kernel;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/repository.rs"]
mod repository;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/size.rs"]
mod size;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/unsafety.rs"]
mod unsafety;

use repository::Repository;

/// A place where a law is broken.
#[derive(Debug)]
struct Breach {
    place: String,
    law: &'static str,
    fix: String,
}

impl Breach {
    fn new(place: impl Into<String>, law: &'static str, fix: impl Into<String>) -> Self {
        Self { place: place.into(), law, fix: fix.into() }
    }
}

/// Fails with every breach at once, so that one run shows them all.
fn hold(breaches: &[Breach]) {
    let lines: Vec<String> = breaches
        .iter()
        .map(|breach| format!("{}\n    law: {}\n    fix: {}", breach.place, breach.law, breach.fix))
        .collect();
    assert!(lines.is_empty(), "{} broken:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn files_stay_small() {
    hold(&size::check(&Repository::load()));
}

#[test]
fn crates_depend_only_along_the_arrows() {
    hold(&crates::arrows());
}

#[test]
fn dependencies_are_declared_once_with_a_reason() {
    hold(&crates::declarations(&Repository::load()));
}

#[test]
fn unsafe_stays_in_its_rooms_and_says_why() {
    hold(&unsafety::check(&Repository::load()));
}

#[test]
fn lint_exceptions_give_a_reason() {
    hold(&rust::lint_exceptions(&Repository::load()));
}

#[test]
fn modules_open_with_their_purpose() {
    hold(&rust::module_docs(&Repository::load()));
}

#[test]
fn nothing_is_left_unfinished() {
    hold(&rust::unfinished(&Repository::load()));
}

#[test]
fn names_come_from_the_vocabulary() {
    hold(&names::check(&Repository::load()));
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    hold(&names::machine_names(&Repository::load()));
}

#[test]
fn documents_point_at_what_exists() {
    hold(&documents::check(&Repository::load()));
}

#[test]
fn the_top_level_is_fixed() {
    hold(&repository::top_level(&Repository::load()));
}

#[test]
fn kernel_options_are_sorted_and_give_a_reason() {
    hold(&kernel::check(&Repository::load()));
}
