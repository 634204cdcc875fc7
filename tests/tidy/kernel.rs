//! Kernel config fragments: each option once, in order, with the feature that needs it.

use crate::Breach;
use crate::repository::Repository;

pub(crate) fn check(repository: &Repository) -> Vec<Breach> {
    repository
        .ending(".config")
        .filter(|(path, _)| path.starts_with("guest-kernel/"))
        .flat_map(|(path, text)| fragment(path, text))
        .collect()
}

/// Breaches of one fragment. An option's reason is the comment on its own line or right above it.
fn fragment(path: &str, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut last: Option<&str> = None;
    let mut previous = "";
    for (number, line) in text.lines().enumerate() {
        let place = format!("{path}:{}", number + 1);
        if let Some(option) = option_name(line) {
            let reason = line.contains(" # ")
                || (previous.starts_with("# ") && option_name(previous).is_none());
            if !reason {
                let law = "every kernel option says which feature needs it";
                breaches.push(Breach::new(&place, law, "add the reason as a comment"));
            }
            if last.is_some_and(|last| last >= option) {
                let law = "kernel options are sorted and stand once in a fragment";
                breaches.push(Breach::new(&place, law, "sort the fragment"));
            }
            last = Some(option);
        } else if !line.is_empty() && !line.starts_with('#') {
            let law = "a fragment holds options and comments only";
            breaches.push(Breach::new(
                &place,
                law,
                "write `CONFIG_X=y` or `# CONFIG_X is not set`",
            ));
        }
        previous = line;
    }
    breaches
}

/// The option that a line sets or switches off.
fn option_name(line: &str) -> Option<&str> {
    let set = line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('='));
    let off = || line.strip_prefix("# CONFIG_").and_then(|rest| rest.split_once(" is not set"));
    set.or_else(off).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsorted_and_unexplained_options_are_found() {
        let good = "# head\n\n# needed by a\nCONFIG_A=y\nCONFIG_B=y # needed by b\n";
        assert!(fragment("x", good).is_empty());
        assert_eq!(fragment("x", "# why\nCONFIG_B=y\n\nCONFIG_A=y\n").len(), 2);
    }
}
