//! What a new daemon does about what a former one left: decided by a pure function, done by each
//! container's driver.

use std::collections::HashSet;
use std::path::Path;

use crate::container::transition::Phase;
use crate::paths::Paths;
use crate::sandbox::RunDir;
use crate::store::Record;

/// What is found of a container beside its record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// No run directory.
    Nothing,
    /// A run directory, but no `husk-vmm`.
    Remains,
    /// Its `husk-vmm` runs.
    Alive,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Nothing: it is as its record says.
    Keep,
    /// End the microVM and remove the run directory; it is as its record says.
    Clear,
    /// Undo a start that was never finished.
    RollBack {
        /// Where it stood before.
        to: Phase,
    },
    /// Find its microVM again.
    Find,
    /// Its microVM is gone: it was killed.
    Lose,
    /// Remove it.
    Remove,
}

/// What to do about a container in `phase`.
pub(crate) fn plan(phase: Phase, ran_before: bool, auto_remove: bool, found: Found) -> Action {
    let to = if ran_before { Phase::Exited } else { Phase::Created };
    match (phase, found) {
        (Phase::Removing, _) => Action::Remove,
        // Its end was written down, and its removal was not.
        (Phase::Exited, _) if auto_remove => Action::Remove,
        (Phase::Starting, _) if auto_remove => Action::Remove,
        (Phase::Starting, _) => Action::RollBack { to },
        (Phase::Running, Found::Alive) => Action::Find,
        (Phase::Running, Found::Nothing | Found::Remains) => Action::Lose,
        (Phase::Created | Phase::Exited, Found::Nothing) => Action::Keep,
        (Phase::Created | Phase::Exited, Found::Remains | Found::Alive) => Action::Clear,
    }
}

/// What is found of the sandbox in `dir`.
pub(crate) fn look(dir: &RunDir) -> Found {
    match (dir.path().exists(), dir.is_alive()) {
        (false, _) => Found::Nothing,
        (true, false) => Found::Remains,
        (true, true) => Found::Alive,
    }
}

/// Removes run directories (with the `husk-vmm` of each) and container directories that no record
/// stands for.
pub(crate) async fn sweep(paths: &Paths, records: &[Record]) {
    let short: HashSet<&str> = records.iter().map(|record| record.id.short()).collect();
    for name in names(&paths.sandboxes()) {
        if !short.contains(name.as_str()) {
            tracing::info!(sandbox = name, "clearing up a sandbox that no container has");
            RunDir::new(paths.sandboxes().join(name)).clear().await;
        }
    }
    let ids: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    for name in names(&paths.containers()) {
        if !ids.contains(name.as_str()) {
            let path = paths.containers().join(name);
            tracing::info!(path = %path.display(), "removing what no container has");
            if let Err(error) = tokio::fs::remove_dir_all(&path).await {
                tracing::error!(%error, path = %path.display(), "failed to remove");
            }
        }
    }
    // A template that was being made.
    for name in names(&paths.cache()).into_iter().filter(|name| name.ends_with(".new")) {
        let _ = tokio::fs::remove_file(paths.cache().join(name)).await;
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_decided() {
        use Found::{Alive, Nothing, Remains};
        use Phase::{Created, Exited, Removing, Running, Starting};
        let back = |to| Action::RollBack { to };
        for (phase, ran_before, auto_remove, found, action) in [
            (Created, false, false, Nothing, Action::Keep),
            (Created, false, true, Nothing, Action::Keep),
            (Created, false, false, Remains, Action::Clear),
            (Created, false, false, Alive, Action::Clear),
            (Starting, false, false, Alive, back(Created)),
            (Starting, false, false, Nothing, back(Created)),
            (Starting, true, false, Remains, back(Exited)),
            (Starting, false, true, Alive, Action::Remove),
            (Running, true, false, Alive, Action::Find),
            (Running, true, true, Alive, Action::Find),
            (Running, true, false, Remains, Action::Lose),
            (Running, true, true, Nothing, Action::Lose),
            (Exited, true, false, Nothing, Action::Keep),
            (Exited, true, false, Alive, Action::Clear),
            (Exited, true, true, Nothing, Action::Remove),
            (Removing, true, false, Alive, Action::Remove),
            (Removing, false, true, Nothing, Action::Remove),
        ] {
            let planned = plan(phase, ran_before, auto_remove, found);
            assert_eq!(planned, action, "{phase:?} {ran_before} {auto_remove} {found:?}");
        }
    }

    #[test]
    fn nothing_stays_halfway_and_no_microvm_runs_unwatched() {
        for phase in Phase::ALL {
            for found in [Found::Nothing, Found::Remains, Found::Alive] {
                for (ran_before, auto_remove) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let action = plan(phase, ran_before, auto_remove, found);
                    if action == Action::Keep {
                        assert!(phase.is_at_rest() && found == Found::Nothing, "{phase:?}");
                    }
                    if action == Action::Find {
                        assert_eq!((phase, found), (Phase::Running, Found::Alive));
                    }
                }
            }
        }
    }
}
