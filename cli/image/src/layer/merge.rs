//! Puts layers one on another (OCI image-spec, layer.md, "Applying Changesets").

use std::collections::HashMap;

use super::error::{EntryError, printable};
use crate::erofs::{Inode, InodeId, Metadata, Node, Step, Tree, TreeError, Walk, XattrId};

/// A merge that failed, and the path it failed at.
#[derive(Debug)]
pub(super) struct MergeError {
    pub(super) path: String,
    pub(super) source: EntryError,
}

/// Puts `layer` on `base`.
///
/// - Whiteouts and opaque directories take away what `base` has, never what `layer` brings.
/// - A directory on a directory keeps the entries below and takes the layer's metadata, unless it
///   is only implied; anything else replaces what is there.
/// - An implied directory on a symlink goes where the symlink leads, as unpacking would.
/// - A hard link to a file of lower layers becomes one more name of that very file.
pub(super) fn merge_layer(base: &mut Tree, layer: Tree) -> Result<(), MergeError> {
    let links = lower_links(base, &layer);
    let mut merge =
        Merge { base, layer, inodes: links, xattrs: HashMap::new(), unresolved: Vec::new() };
    let mut pending = vec![(Tree::ROOT, Tree::ROOT)];
    merge.enter(Tree::ROOT, Tree::ROOT)?;
    while let Some((from, to)) = pending.pop() {
        merge.merge_directory(from, to, &mut pending)?;
    }
    merge.resolve_forward_links()
}

/// The files of `base`, as it was below the layer, that hard links of `layer` refer to.
fn lower_links(base: &Tree, layer: &Tree) -> HashMap<InodeId, InodeId> {
    let targets = layer.ids().filter_map(|id| match &layer.get(id).node {
        Node::LowerLink(target) => Some((id, target)),
        _ => None,
    });
    targets
        .filter_map(|(id, target)| match Walk::new(Tree::ROOT, target, false).advance(base) {
            Step::Found(found) if base.get(found).directory().is_none() => Some((id, found)),
            _ => None,
        })
        .collect()
}

struct Merge<'a> {
    base: &'a mut Tree,
    layer: Tree,
    /// What the layer's files became.
    inodes: HashMap<InodeId, InodeId>,
    xattrs: HashMap<XattrId, XattrId>,
    /// Hard links whose target was not below: directory, name, inode of the layer.
    unresolved: Vec<(InodeId, Box<[u8]>, InodeId)>,
}

impl Merge<'_> {
    /// Puts the entries of the layer's directory `from` into the base's directory `to`.
    fn merge_directory(
        &mut self,
        from: InodeId,
        to: InodeId,
        pending: &mut Vec<(InodeId, InodeId)>,
    ) -> Result<(), MergeError> {
        let data = self.layer.get_mut(from).directory_mut().expect("only directories are queued");
        for (name, id) in std::mem::take(&mut data.children) {
            let below = self.base.child(to, &name);
            match &self.layer.get(id).node {
                Node::Whiteout => self.remove(to, &name),
                Node::Directory(_) => {
                    let target = self
                        .directory_for(id, to, &name, below)
                        .map_err(|error| at(&name, error))?;
                    self.enter(id, target)?;
                    pending.push((id, target));
                }
                Node::LowerLink(_) if !self.inodes.contains_key(&id) => {
                    self.remove(to, &name);
                    self.unresolved.push((to, name, id));
                }
                _ => self.place(to, &name, id).map_err(|error| at(&name, error))?,
            }
        }
        Ok(())
    }

    /// The base's directory that the layer's directory `id` is merged into.
    fn directory_for(
        &mut self,
        id: InodeId,
        to: InodeId,
        name: &[u8],
        below: Option<InodeId>,
    ) -> Result<InodeId, TreeError> {
        if let Some(below) = below {
            let inode = self.base.get(below);
            if inode.directory().is_some() {
                return Ok(below);
            }
            let implied = self.layer.get(id).directory().is_some_and(|data| data.implied);
            if implied && matches!(inode.node, Node::Symlink(_)) {
                match Walk::new(to, name, true).advance(self.base) {
                    Step::Found(found) if self.base.get(found).directory().is_some() => {
                        return Ok(found);
                    }
                    _ => {}
                }
            }
        }
        self.base.insert(to, name, Inode::implied_directory())
    }

    /// Applies what the layer says of a directory itself, before any of its entries.
    fn enter(&mut self, from: InodeId, to: InodeId) -> Result<(), MergeError> {
        let data = self.layer.get(from).directory().expect("only directories are entered");
        let (opaque, implied) = (data.opaque, data.implied);
        if opaque && let Some(below) = self.base.get_mut(to).directory_mut() {
            below.children.clear();
        }
        if !implied {
            let metadata = self.metadata(from).map_err(|error| at(b"", error))?;
            self.base.get_mut(to).metadata = metadata;
        }
        Ok(())
    }

    /// Gives one of the layer's files its name in the base.
    fn place(&mut self, to: InodeId, name: &[u8], id: InodeId) -> Result<(), TreeError> {
        let placed = match self.inodes.get(&id) {
            Some(placed) => *placed,
            None => {
                let metadata = self.metadata(id)?;
                let node = self.layer.get(id).node.clone();
                let placed = self.base.add(Inode { metadata, node })?;
                self.inodes.insert(id, placed);
                placed
            }
        };
        self.base.link(to, name, placed)
    }

    fn remove(&mut self, directory: InodeId, name: &[u8]) {
        if let Some(data) = self.base.get_mut(directory).directory_mut() {
            data.children.remove(name);
        }
    }

    /// Metadata of one of the layer's inodes, with the base's attribute ids.
    fn metadata(&mut self, id: InodeId) -> Result<Metadata, TreeError> {
        let mut metadata = self.layer.get(id).metadata.clone();
        for xattr in &mut metadata.xattrs {
            *xattr = match self.xattrs.get(xattr) {
                Some(known) => *known,
                None => {
                    let new = self.base.xattrs.intern(self.layer.xattrs.get(*xattr).clone())?;
                    self.xattrs.insert(*xattr, new);
                    new
                }
            };
        }
        Ok(metadata)
    }

    /// Resolves hard links to files that the layer itself brought later.
    fn resolve_forward_links(self) -> Result<(), MergeError> {
        for (directory, name, id) in self.unresolved {
            let Node::LowerLink(target) = &self.layer.get(id).node else { continue };
            let error = match Walk::new(Tree::ROOT, target, false).advance(self.base) {
                Step::Found(found) if self.base.get(found).directory().is_none() => {
                    match self.base.link(directory, &name, found) {
                        Ok(()) => continue,
                        Err(error) => error.into(),
                    }
                }
                Step::Found(_) => EntryError::LinkToDirectory,
                _ => EntryError::LinkTarget(printable(target)),
            };
            return Err(MergeError { path: printable(&name), source: error });
        }
        Ok(())
    }
}

fn at(name: &[u8], error: TreeError) -> MergeError {
    MergeError { path: printable(name), source: error.into() }
}
