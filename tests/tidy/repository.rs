//! The files of the checkout, read once per law.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Breach;
use crate::source::Source;

/// What may stand at the top level besides what version control ignores.
const TOP_LEVEL: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "agent",
    "benches",
    "cli",
    "guest-kernel",
    "tests",
    "vmm",
];

/// Build output and version control, which are no part of the sources.
const IGNORED: &[&str] = &[".git", "dist", "target"];

/// Text files by path relative to the top level; files that are not UTF-8 are left out.
pub(crate) struct Repository {
    pub(crate) root: PathBuf,
    pub(crate) texts: BTreeMap<String, String>,
}

impl Repository {
    pub(crate) fn load() -> Self {
        let root = root();
        let mut texts = BTreeMap::new();
        read_folder(&root, "", &mut texts);
        Self { root, texts }
    }

    /// Files whose name ends in `suffix`.
    pub(crate) fn ending(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(suffix))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Rust files, with comments and literals told apart from code.
    pub(crate) fn rust(&self) -> impl Iterator<Item = Source<'_>> {
        self.ending(".rs").map(|(path, text)| Source::new(path, text))
    }
}

/// The checkout's top level.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout").into()
}

fn read_folder(folder: &Path, prefix: &str, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("the checkout can be listed") {
        let entry = entry.expect("the checkout can be listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("the type of a listed file");
        if IGNORED.contains(&name.as_str()) {
            // A worktree's `.git` is a file.
        } else if kind.is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), texts);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            texts.insert(path, text);
        }
    }
}

/// The top level holds the rooms and nothing else, so that it can be taken in at a glance.
pub(crate) fn top_level(repository: &Repository) -> Vec<Breach> {
    let listing = fs::read_dir(&repository.root).expect("the checkout can be listed");
    let found: Vec<String> = listing
        .map(|entry| entry.expect("a listed entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !IGNORED.contains(&name.as_str()))
        .collect();
    let law = "the top level holds exactly the fixed list of rooms and files";
    let extra = found
        .iter()
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| Breach::new(name, law, "move it into the room that owns it"));
    let missing = TOP_LEVEL
        .iter()
        .filter(|name| !found.iter().any(|found| found == *name))
        .map(|name| Breach::new(*name, law, "restore it"));
    extra.chain(missing).collect()
}
