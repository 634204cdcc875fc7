//! Unsafe code stays in the few folders made for it, and every block says why it is sound.

use crate::Breach;
use crate::repository::Repository;
use crate::source::Source;

/// Crate roots that forbid unsafe code.
const FORBID: &[&str] = &[
    "agent/protocol/src/lib.rs",
    "cli/api/src/lib.rs",
    "cli/image/src/lib.rs",
    "cli/src/main.rs",
    "vmm/config/src/lib.rs",
    "vmm/devices/src/lib.rs",
];

/// Folders, or single files of that name, where unsafe code may stand.
const ROOMS: &[&str] = &[
    "agent/src/sys",
    "cli/engine/src/sys",
    "cli/shim/src/sys",
    "vmm/examples/guest/sys",
    "vmm/src/kvm",
    "vmm/src/memory",
    "vmm/src/sys",
    "vmm/tests/harness/sys",
];

/// How many lines above a block its note may start.
const NOTE_DISTANCE: usize = 16;

pub(crate) fn check(repository: &Repository) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in repository.rust() {
        let forbids = source.code.contains("#![forbid(unsafe_code)]");
        if FORBID.contains(&source.path) && !forbids {
            let law = "this crate forbids unsafe code";
            breaches.push(Breach::new(
                source.path,
                law,
                "add `#![forbid(unsafe_code)]` at its root",
            ));
        }
        breaches.extend(blocks(&source));
    }
    breaches
}

fn blocks(source: &Source<'_>) -> Vec<Breach> {
    let lines: Vec<&str> = source.text.lines().collect();
    let room = ROOMS.iter().any(|room| {
        source.path.strip_prefix(room).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    });
    let mut breaches = Vec::new();
    for (number, line) in source.code.lines().enumerate() {
        let Some(form) = unsafe_form(line) else { continue };
        let place = format!("{}:{}", source.path, number + 1);
        if !room {
            let law = "unsafe code stands only in the folders made for it";
            breaches.push(Breach::new(
                place,
                law,
                "move it into sys/, kvm/ or memory/, behind a safe function",
            ));
        } else if !explained(&lines, number, form) {
            let law =
                "every unsafe block has a SAFETY note, every unsafe function a Safety section";
            let fix = "name the callee's preconditions and why they hold here";
            breaches.push(Breach::new(place, law, fix));
        }
    }
    breaches
}

/// What introduces unsafe code on a line: `"SAFETY:"` or `"# Safety"` is what must explain it.
fn unsafe_form(line: &str) -> Option<&'static str> {
    let at = line.match_indices("unsafe").map(|(at, _)| at).find(|&at| {
        let word = |character: char| character.is_alphanumeric() || character == '_';
        !line[..at].ends_with(word) && !line[at + 6..].starts_with(word)
    })?;
    let rest = line[at + 6..].trim_start();
    match rest {
        _ if rest.starts_with("fn ") || rest.starts_with("trait ") => Some("# Safety"),
        _ if rest.starts_with("extern") => Some("SAFETY:"),
        _ if rest.starts_with('{') || rest.is_empty() || rest.starts_with("impl") => {
            Some("SAFETY:")
        }
        _ => None,
    }
}

fn explained(lines: &[&str], number: usize, note: &str) -> bool {
    lines[number.saturating_sub(NOTE_DISTANCE)..=number].iter().any(|line| {
        line.trim_start().starts_with("//") && (line.contains(note) || line.contains("SAFETY:"))
            || line.contains("// SAFETY:")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_outside_the_rooms_or_without_a_note_are_found() {
        let bare = "fn a() {\n    unsafe { b() }\n}\n";
        let noted = "fn a() {\n    // SAFETY: b takes nothing.\n    unsafe { b() }\n}\n";
        assert_eq!(blocks(&Source::new("agent/src/main.rs", noted)).len(), 1);
        assert_eq!(blocks(&Source::new("agent/src/sys/mod.rs", bare)).len(), 1);
        assert!(blocks(&Source::new("agent/src/sys/mod.rs", noted)).is_empty());
    }

    #[test]
    fn attributes_that_name_unsafe_code_are_no_blocks() {
        assert_eq!(unsafe_form("#![forbid(unsafe_code)]"), None);
    }
}
