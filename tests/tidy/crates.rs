//! The walls between the rooms: who may depend on whom, and on what from outside.

use std::process::Command;

use cargo_metadata::MetadataCommand;

use crate::Breach;
use crate::repository::{Repository, root};

/// Which of our crates each of our crates may depend on; nothing else may.
const ARROWS: &[(&str, &[&str])] = &[
    ("containerd-shim-husk-v2", &["husk-engine", "husk-protocol", "husk-vmm-config"]),
    ("husk", &["husk-api", "husk-engine"]),
    ("husk-agent", &["husk-protocol"]),
    ("husk-api", &[]),
    ("husk-benches", &["husk-api", "husk-tests", "husk-vmm-config"]),
    ("husk-devices", &[]),
    ("husk-engine", &["husk-api", "husk-image", "husk-protocol", "husk-vmm-config"]),
    ("husk-image", &[]),
    ("husk-protocol", &[]),
    ("husk-tests", &["husk-api"]),
    ("husk-vmm", &["husk-devices", "husk-vmm-config"]),
    ("husk-vmm-config", &[]),
];

/// Outside crates that a room must not touch.
const FOREIGN: &[(&str, &[&str])] = &[
    ("husk-agent", &["tokio"]),
    ("husk-api", &["axum", "hyper", "libc", "reqwest", "rustix", "tokio"]),
    ("husk-devices", &["kvm-bindings", "kvm-ioctls", "libc", "tokio"]),
    ("husk-engine", &["clap", "indicatif", "kvm-bindings", "kvm-ioctls"]),
    ("husk-image", &["axum", "clap", "indicatif", "kvm-bindings", "kvm-ioctls"]),
    ("husk-protocol", &["libc", "rustix", "tokio"]),
    ("husk-vmm", &["clap", "hyper", "oci-client", "tokio"]),
    ("husk-vmm-config", &["kvm-bindings", "kvm-ioctls", "libc", "rustix", "tokio"]),
];

pub(crate) fn arrows() -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (package, dependencies) in packages() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
            let law = "every crate has its place in the list of arrows";
            breaches.push(Breach::new(package, law, "add it to tests/tidy/crates.rs"));
            continue;
        };
        let foreign =
            FOREIGN.iter().find(|(name, _)| *name == package).map_or(&[][..], |row| row.1);
        for dependency in dependencies {
            // A crate's own tests may ask for a feature of it.
            let ours = dependency != package && ARROWS.iter().any(|(name, _)| *name == dependency);
            if ours && !allowed.contains(&dependency.as_str()) {
                breaches.push(Breach::new(
                    format!("{package} depends on {dependency}"),
                    "crates depend on each other only along the design's arrows",
                    "move what is shared down into a crate that both may use",
                ));
            }
            if foreign.contains(&dependency.as_str()) {
                breaches.push(Breach::new(
                    format!("{package} depends on {dependency}"),
                    "a room touches only what the design gives it",
                    "do that work in the room that owns it",
                ));
            }
        }
    }
    breaches
}

/// Our crates, each with the names of its direct dependencies of every kind.
fn packages() -> Vec<(String, Vec<String>)> {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).no_deps();
    command.other_options(vec!["--offline".to_owned()]);
    let metadata = command.exec().expect("cargo metadata describes this workspace");
    metadata
        .packages
        .into_iter()
        .map(|package| {
            let names = package.dependencies.into_iter().map(|dependency| dependency.name);
            (package.name.to_string(), names.collect())
        })
        .collect()
}

/// Every outside crate is declared once, at the top, under a comment that says why it is worth it.
pub(crate) fn declarations(repository: &Repository) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (path, text) in repository.ending("Cargo.toml") {
        let mut table = String::new();
        let mut previous = "";
        for line in text.lines() {
            if line.starts_with('[') {
                table = line.trim_matches(['[', ']']).to_owned();
            } else if line.contains('=') && !line.starts_with(['#', ' ']) {
                breaches.extend(declaration(path, &table, previous, line));
            }
            previous = line;
        }
    }
    breaches
}

fn declaration(path: &str, table: &str, previous: &str, line: &str) -> Option<Breach> {
    let place = format!("{path}: {line}");
    if table == "workspace.dependencies" {
        let explained = line.contains("path = ") || previous.starts_with("# ");
        let law = "every dependency says in a comment above it why it is worth having";
        return (!explained).then(|| Breach::new(place, law, "add the comment, or drop the crate"));
    }
    let inherits = line.contains("workspace = true");
    let law = "members take dependencies from the workspace";
    (table.ends_with("dependencies") && !inherits).then(|| {
        Breach::new(place, law, "declare it in the root Cargo.toml, then `workspace = true`")
    })
}

#[test]
fn the_lock_file_is_complete() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--locked", "--offline", "--format-version", "1", "--no-deps"]);
    let output = command.current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
