//! Finding a path in a tree, symlinks included.

use super::tree::{InodeId, Node, Tree};

/// Symlinks followed before a path is called a loop, as Linux does.
const SYMLINKS_MAX: u32 = 40;
/// Components looked up for one path, symlinks' included: 40 targets of 2,000 components each
/// would cost milliseconds for every 512-byte tar header.
const STEPS_MAX: u32 = 8192;

/// How far a walk came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// To the end of the path.
    Found(InodeId),
    /// The directory has no such name.
    Missing {
        /// Where the walk stands.
        directory: InodeId,
        /// What is not there.
        name: Box<[u8]>,
    },
    /// Something on the way is neither directory nor symlink.
    NotDirectory,
    /// Too many symlinks, or components in them.
    Loop,
}

/// A walk along a path, inside the tree whatever the path says.
#[derive(Debug)]
pub(crate) struct Walk {
    at: InodeId,
    /// Components still to come, the next one last.
    left: Vec<Box<[u8]>>,
    /// Whether a symlink in last place is followed.
    follow: bool,
    symlinks: u32,
    steps: u32,
}

impl Walk {
    /// Starts at `at`, a directory; an absolute path starts at the root all the same.
    pub(crate) fn new(at: InodeId, path: &[u8], follow: bool) -> Self {
        let mut walk = Self { at, left: Vec::new(), follow, symlinks: 0, steps: 0 };
        walk.push(path);
        walk
    }

    /// Puts a path before what is left.
    fn push(&mut self, path: &[u8]) {
        if path.first() == Some(&b'/') {
            self.at = Tree::ROOT;
        }
        let components = path.split(|byte| *byte == b'/').rev();
        self.left
            .extend(components.filter(|part| !part.is_empty() && *part != b".").map(Box::from));
    }

    /// Goes as far as the tree allows.
    pub(crate) fn advance(&mut self, tree: &Tree) -> Step {
        while let Some(name) = self.left.pop() {
            self.steps += 1;
            let Some(data) = tree.get(self.at).directory() else { return Step::NotDirectory };
            if *name == *b".." {
                self.at = data.parent;
                continue;
            }
            let Some(child) = data.children.get(&name) else {
                return Step::Missing { directory: self.at, name };
            };
            match &tree.get(*child).node {
                Node::Symlink(target) if self.follow || !self.left.is_empty() => {
                    self.symlinks += 1;
                    self.push(target);
                }
                _ => self.at = *child,
            }
            if self.symlinks > SYMLINKS_MAX || self.steps > STEPS_MAX {
                return Step::Loop;
            }
        }
        Step::Found(self.at)
    }

    /// Goes on in `directory`, which the caller has put where something was missing.
    pub(crate) fn enter(&mut self, directory: InodeId) {
        self.at = directory;
    }
}
