//! One tar stream becomes one layer image, in one pass.
//!
//! File content goes to the image as it streams by; the tree, and the content of small files,
//! stay in memory until the stream has ended and the metadata can be laid out.
//!
//! Entries are applied as Docker applies them, in the order of the stream: a later entry replaces
//! an earlier one of the same path, except that a directory over a directory keeps its entries.
//! Differences, all of them where Docker's result depends on what happens to lie below:
//! - parents that the stream does not bring are marked as implied, so that a merge keeps what
//!   lower layers say of them, or follows a symlink they have there;
//! - a hard link to a file that the stream did not bring (yet) is resolved by the merge, and the
//!   metadata that the link entry repeats are ignored;
//! - whiteouts hide lower layers only, wherever in the stream they stand.

use std::io::Read;

use super::error::{EntryError, LayerError, printable};
use super::limits::{ENTRIES_MAX, FILE_LEN_MAX, SYMLINK_LEN_MAX};
use super::path::{self, Target};
use super::store::FileSink;
use super::tar::{Archive, EntryKind, TarEntry};
use crate::erofs::{
    Appender, DirectoryData, Inode, InodeId, Metadata, Node, Step, Tree, TreeError, Walk, Xattr,
    marker, write_image, xattr,
};

use super::LayerSummary;

/// Largest major and minor number of a device.
const MAJOR_MAX: u32 = 0xfff;
const MINOR_MAX: u32 = 0xf_ffff;

/// A layer in the making.
pub(super) struct Converter<'a> {
    tree: Tree,
    sink: FileSink<'a>,
    /// Names hidden in lower layers, by directory.
    whiteouts: Vec<(InodeId, Box<[u8]>)>,
    summary: LayerSummary,
}

impl<'a> Converter<'a> {
    pub(super) fn new(output: Appender<'a>) -> Result<Self, LayerError> {
        Ok(Self {
            tree: Tree::default(),
            sink: FileSink::new(output)?,
            whiteouts: Vec::new(),
            summary: LayerSummary { image_bytes: 0, content_bytes: 0, entries: 0 },
        })
    }

    /// Applies every entry of the stream.
    pub(super) fn read(&mut self, stream: impl Read) -> Result<(), LayerError> {
        let mut archive = Archive::new(stream);
        while let Some(entry) = archive.next()? {
            self.summary.entries += 1;
            if self.summary.entries > ENTRIES_MAX {
                return Err(LayerError::TooManyEntries);
            }
            self.apply(&entry, &mut archive).map_err(|problem| match problem {
                Problem::Entry(source) => {
                    LayerError::Entry { path: printable(&entry.path), source }
                }
                Problem::Layer(error) => error,
            })?;
        }
        Ok(())
    }

    /// Writes the metadata.
    pub(super) fn finish(mut self) -> Result<LayerSummary, LayerError> {
        let whole = |source: TreeError| LayerError::Entry {
            path: "its whiteouts".to_owned(),
            source: source.into(),
        };
        self.link_whiteouts().map_err(whole)?;
        marker::attach(&mut self.tree).map_err(whole)?;
        let (output, arena) = self.sink.into_parts();
        self.summary.image_bytes = write_image(&self.tree, &arena, output, &[])?;
        self.summary.content_bytes = self.tree.content_bytes();
        Ok(self.summary)
    }

    /// Applies one entry.
    fn apply<R: Read>(
        &mut self,
        entry: &TarEntry,
        archive: &mut Archive<R>,
    ) -> Result<(), Problem> {
        match path::target(&entry.path)? {
            Target::Ignored => Ok(()),
            Target::Root if entry.kind == EntryKind::Directory => {
                let metadata = self.metadata(entry)?;
                self.make_explicit(Tree::ROOT, metadata);
                Ok(())
            }
            Target::Root => Err(EntryError::NotRoot.into()),
            Target::Opaque { directory } => {
                let directory = self.make_directories(&directory)?;
                self.directory(directory).opaque = true;
                Ok(())
            }
            Target::Whiteout { parent, name } => {
                let parent = self.make_directories(&parent)?;
                self.whiteout(parent, &name)
            }
            Target::File { parent, name } => {
                let parent = self.make_directories(&parent)?;
                self.apply_file(entry, archive, parent, &name)
            }
        }
    }

    /// Applies an entry that makes a file.
    fn apply_file<R: Read>(
        &mut self,
        entry: &TarEntry,
        archive: &mut Archive<R>,
        parent: InodeId,
        name: &[u8],
    ) -> Result<(), Problem> {
        let node = match entry.kind {
            EntryKind::Directory => return self.apply_directory(entry, parent, name),
            EntryKind::HardLink => return self.apply_link(entry, parent, name),
            EntryKind::CharDevice if entry.device == (0, 0) => {
                self.directory(parent).children.remove(name);
                return self.whiteout(parent, name);
            }
            EntryKind::CharDevice => {
                let (major, minor) = device_number(entry)?;
                Node::CharDevice(major, minor)
            }
            EntryKind::BlockDevice => {
                let (major, minor) = device_number(entry)?;
                Node::BlockDevice(major, minor)
            }
            EntryKind::Fifo => Node::Fifo,
            EntryKind::Symlink => {
                check_symlink(&entry.link)?;
                Node::Symlink(entry.link.clone().into())
            }
            EntryKind::File => {
                if entry.size > FILE_LEN_MAX {
                    return Err(EntryError::FileTooLarge.into());
                }
                let xattrs = xattrs_of(entry);
                let body = xattr::body_size_max(&xattrs).map_err(EntryError::from)?;
                let content = self.sink.store(entry, archive, body)?;
                Node::File { size: entry.size, content }
            }
        };
        let metadata = self.metadata(entry)?;
        self.tree.insert(parent, name, Inode { metadata, node }).map_err(EntryError::from)?;
        Ok(())
    }

    fn apply_directory(
        &mut self,
        entry: &TarEntry,
        parent: InodeId,
        name: &[u8],
    ) -> Result<(), Problem> {
        let metadata = self.metadata(entry)?;
        let existing = self.tree.child(parent, name);
        match existing {
            Some(id) if self.tree.get(id).directory().is_some() => {
                self.make_explicit(id, metadata);
            }
            _ => {
                // What stood here before has taken the place of anything in lower layers.
                let opaque = existing.is_some();
                let node = Node::Directory(DirectoryData { opaque, ..DirectoryData::default() });
                self.tree
                    .insert(parent, name, Inode { metadata, node })
                    .map_err(EntryError::from)?;
            }
        }
        Ok(())
    }

    fn apply_link(
        &mut self,
        entry: &TarEntry,
        parent: InodeId,
        name: &[u8],
    ) -> Result<(), Problem> {
        let target = path::clean(&entry.link)?.join(&b'/');
        match Walk::new(Tree::ROOT, &target, false).advance(&self.tree) {
            Step::Found(id) if self.tree.get(id).directory().is_some() => {
                Err(EntryError::LinkToDirectory.into())
            }
            Step::Found(id) => Ok(self.tree.link(parent, name, id).map_err(EntryError::from)?),
            Step::Loop => Err(EntryError::SymlinkLoop.into()),
            Step::Missing { .. } | Step::NotDirectory => {
                let metadata = Metadata::default();
                let inode = Inode { metadata, node: Node::LowerLink(target.into()) };
                self.tree.insert(parent, name, inode).map_err(EntryError::from)?;
                Ok(())
            }
        }
    }

    fn whiteout(&mut self, parent: InodeId, name: &[u8]) -> Result<(), Problem> {
        self.tree
            .charge(name.len() + size_of::<(InodeId, Box<[u8]>)>())
            .map_err(EntryError::from)?;
        self.whiteouts.push((parent, name.into()));
        Ok(())
    }

    /// Gives every hidden name its mark: a directory that the layer itself brings is opaque, any
    /// other file hides the name anyway, and where there is nothing stands a whiteout.
    fn link_whiteouts(&mut self) -> Result<(), TreeError> {
        let mut shared = None;
        for (parent, name) in std::mem::take(&mut self.whiteouts) {
            if let Some(child) = self.tree.child(parent, &name) {
                if let Some(data) = self.tree.get_mut(child).directory_mut() {
                    // Not even the metadata below are left for it.
                    (data.opaque, data.implied) = (true, false);
                }
                continue;
            }
            let id = match shared {
                Some(id) => id,
                None => {
                    self.tree.add(Inode { metadata: Metadata::default(), node: Node::Whiteout })?
                }
            };
            shared = Some(id);
            self.tree.link(parent, &name, id)?;
        }
        Ok(())
    }

    /// Follows `path` to a directory, symlinks included, and makes what is missing.
    fn make_directories(&mut self, path: &[u8]) -> Result<InodeId, Problem> {
        let mut walk = Walk::new(Tree::ROOT, path, true);
        loop {
            match walk.advance(&self.tree) {
                Step::Found(id) if self.tree.get(id).directory().is_some() => return Ok(id),
                Step::Found(_) | Step::NotDirectory => {
                    return Err(EntryError::ParentNotDirectory.into());
                }
                Step::Loop => return Err(EntryError::SymlinkLoop.into()),
                Step::Missing { directory, name } => {
                    let id = self
                        .tree
                        .insert(directory, &name, Inode::implied_directory())
                        .map_err(EntryError::from)?;
                    walk.enter(id);
                }
            }
        }
    }

    /// Gives a directory an entry's metadata.
    fn make_explicit(&mut self, id: InodeId, metadata: Metadata) {
        self.tree.get_mut(id).metadata = metadata;
        self.directory(id).implied = false;
    }

    fn directory(&mut self, id: InodeId) -> &mut DirectoryData {
        self.tree.get_mut(id).directory_mut().expect("it was looked up as a directory")
    }

    fn metadata(&mut self, entry: &TarEntry) -> Result<Metadata, EntryError> {
        let xattrs = xattrs_of(entry);
        xattr::body_size_max(&xattrs)?;
        let ids: Result<_, TreeError> =
            xattrs.into_iter().map(|xattr| self.tree.xattrs.intern(xattr)).collect();
        Ok(Metadata {
            // Linux knows no other mode of a symlink.
            permissions: match entry.kind {
                EntryKind::Symlink => 0o777,
                _ => entry.permissions,
            },
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: ids?,
        })
    }
}

/// What stops an entry: something about it, or about the stream or the output.
pub(super) enum Problem {
    Entry(EntryError),
    Layer(LayerError),
}

impl From<EntryError> for Problem {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl From<LayerError> for Problem {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

/// An entry's extended attributes in order, but for those that Linux has no name space for, as
/// Docker leaves out what the file system refuses, and those that overlayfs and we reserve.
fn xattrs_of(entry: &TarEntry) -> Vec<Xattr> {
    let mut xattrs: Vec<Xattr> = entry
        .xattrs
        .iter()
        .filter(|(name, _)| !marker::is_reserved(name))
        .filter_map(|(name, value)| {
            let xattr = Xattr::new(name, value);
            if xattr.is_none() {
                tracing::debug!(
                    path = printable(&entry.path),
                    name = printable(name),
                    "left out an extended attribute that Linux cannot store"
                );
            }
            xattr
        })
        .collect();
    xattrs.sort();
    xattrs
}

fn device_number(entry: &TarEntry) -> Result<(u32, u32), EntryError> {
    let within = |number: i64, max: u32| {
        u32::try_from(number).ok().filter(|number| *number <= max).ok_or(EntryError::DeviceNumber)
    };
    Ok((within(entry.device.0, MAJOR_MAX)?, within(entry.device.1, MINOR_MAX)?))
}

fn check_symlink(target: &[u8]) -> Result<(), EntryError> {
    if target.contains(&0) {
        return Err(EntryError::NulByte);
    }
    if target.is_empty() || target.len() > SYMLINK_LEN_MAX {
        return Err(EntryError::SymlinkTarget);
    }
    Ok(())
}
