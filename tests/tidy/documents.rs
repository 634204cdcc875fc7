//! Documents that point only at what exists.

use std::path::Path;

use crate::Breach;
use crate::repository::Repository;

/// Beginnings by which a word in code type is taken for a path of ours.
const ROOMS: &[&str] =
    &[".cargo/", ".ci/", "agent/", "benches/", "cli/", "guest-kernel/", "tests/", "vmm/"];

pub(crate) fn check(repository: &Repository) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (path, text) in repository.ending(".md") {
        let folder = Path::new(path).parent().expect("a file lies in a folder");
        for (number, line) in text.lines().enumerate() {
            let place = format!("{path}:{}", number + 1);
            for target in links(line) {
                if !repository.root.join(folder).join(target).exists() {
                    let law = "relative links lead to what exists";
                    breaches.push(Breach::new(format!("{place} {target}"), law, "mend the link"));
                }
            }
            for named in named_paths(line) {
                let exists =
                    [repository.root.join(named), repository.root.join(folder).join(named)];
                if !exists.iter().any(|path| path.exists()) {
                    let law = "paths named in documents exist";
                    breaches.push(Breach::new(
                        format!("{place} {named}"),
                        law,
                        "name where it is now",
                    ));
                }
            }
        }
    }
    breaches
}

/// Targets of relative links, without their anchors.
fn links(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .filter_map(|target| target.split('#').next())
        .collect()
}

/// Words in code type that begin like a path of ours and hold no pattern.
fn named_paths(line: &str) -> Vec<&str> {
    line.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| ROOMS.iter().any(|room| word.starts_with(room)))
        .filter(|word| !word.contains([' ', '*', '<', '{', '…']))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn links_and_paths_are_read_from_a_line() {
        let line = "see [a](b.md#c), [d](https://e) and `vmm/src`, not `vmm` or `cli/*`";
        assert_eq!(super::links(line), ["b.md"]);
        assert_eq!(super::named_paths(line), ["vmm/src"]);
    }
}
