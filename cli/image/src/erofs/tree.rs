//! A directory tree in memory: what an image is written from and read into.
//!
//! Inodes lie in one vector and refer to each other by number, so that a tree of any depth is
//! walked and dropped without recursion.

use std::collections::BTreeMap;

use super::xattr::{XattrId, XattrTable};

/// Inodes of one tree, those that a later entry replaced included. A tar entry of 1 KiB can ask
/// for a thousand parent directories: without a bound a small download fills the host's memory.
pub const INODES_MAX: usize = 2_000_000;

/// Bytes of names, link targets, attribute and chunk lists of one tree. Together with
/// [`INODES_MAX`] it keeps any layer within about a gigabyte of memory.
pub(crate) const TREE_BYTES_MAX: usize = 512 << 20;
/// What an entry of a directory costs besides its name.
const ENTRY_BYTES: usize = 48;

/// Why a tree could not take something.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TreeError {
    /// More than [`INODES_MAX`].
    #[error("more than {INODES_MAX} files and directories")]
    Inodes,
    /// More than `TREE_BYTES_MAX`.
    #[error("more than 512 MiB of file names and link targets")]
    Bytes,
    /// More than `XATTR_BYTES_MAX`.
    #[error("more than 64 MiB of extended attributes")]
    XattrBytes,
    /// One inode has too many attributes.
    #[error("more than 128 extended attributes or 128 KiB of them on one file")]
    InodeXattrs,
}

/// Seconds and nanoseconds since 1970, exact; before 1970 the seconds are negative and the
/// nanoseconds still count upwards.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// What every kind of file has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metadata {
    /// The low twelve bits of the mode.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes, ordered by name.
    pub xattrs: Box<[XattrId]>,
}

/// Identifies an inode of a [`Tree`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InodeId(u32);

impl InodeId {
    /// Position in the tree.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A run of blocks on a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// 0 is the image itself, others count from 1 in the device table.
    pub device: u16,
    /// First block.
    pub block: u32,
}

/// Where a regular file's bytes are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// In an [`super::InlineStore`], from `offset` on; the image holds them next to the inode.
    Inline {
        /// Which store; its meaning is the store's.
        store: u16,
        /// Byte offset in it.
        offset: u64,
    },
    /// In one run of blocks.
    Contiguous(Extent),
    /// In chunks of `BLOCK_SIZE << bits` bytes; `None` is a hole.
    Chunked {
        /// log2(blocks a chunk).
        bits: u8,
        /// As many as the size asks for.
        chunks: Box<[Option<Extent>]>,
    },
}

/// A directory's entries, and how it stands to lower layers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryData {
    /// The directory that it has its name in; the root's is the root.
    pub parent: InodeId,
    /// By name; never `.`, `..`, empty, or with a `/` or NUL in it.
    pub children: BTreeMap<Box<[u8]>, InodeId>,
    /// The directory of the same path in lower layers is hidden.
    pub opaque: bool,
    /// Not in the layer, only on the way to something that is: a lower layer's metadata stand.
    pub implied: bool,
}

impl Default for DirectoryData {
    fn default() -> Self {
        Self { parent: Tree::ROOT, children: BTreeMap::new(), opaque: false, implied: false }
    }
}

/// What an inode is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A directory.
    Directory(DirectoryData),
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Where they are.
        content: Content,
    },
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Hides the name in lower layers.
    Whiteout,
    /// One more name of the file at this path of the lower layers.
    LowerLink(Box<[u8]>),
}

/// One inode.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inode {
    /// Owner, mode, time, attributes.
    pub metadata: Metadata,
    /// Kind and data.
    pub node: Node,
}

impl Inode {
    /// A directory that only leads to something: root's, mode 0755, of 1970.
    #[must_use]
    pub fn implied_directory() -> Self {
        let node = Node::Directory(DirectoryData { implied: true, ..DirectoryData::default() });
        Self { metadata: Metadata { permissions: 0o755, ..Metadata::default() }, node }
    }

    /// The directory's data, if it is one.
    #[must_use]
    pub fn directory(&self) -> Option<&DirectoryData> {
        match &self.node {
            Node::Directory(data) => Some(data),
            _ => None,
        }
    }

    /// The directory's data, if it is one.
    #[must_use]
    pub fn directory_mut(&mut self) -> Option<&mut DirectoryData> {
        match &mut self.node {
            Node::Directory(data) => Some(data),
            _ => None,
        }
    }
}

/// A directory tree.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    bytes: usize,
    /// The extended attributes that its inodes refer to.
    pub xattrs: XattrTable,
}

impl Default for Tree {
    fn default() -> Self {
        Self { inodes: vec![Inode::implied_directory()], bytes: 0, xattrs: XattrTable::default() }
    }
}

impl Tree {
    /// The root directory; there always is one.
    pub const ROOT: InodeId = InodeId(0);

    /// Adds an inode that no directory refers to yet.
    ///
    /// # Errors
    /// If the tree is full.
    pub fn add(&mut self, inode: Inode) -> Result<InodeId, TreeError> {
        if self.inodes.len() >= INODES_MAX {
            return Err(TreeError::Inodes);
        }
        let id = InodeId(u32::try_from(self.inodes.len()).map_err(|_| TreeError::Inodes)?);
        let data = match &inode.node {
            Node::Symlink(target) | Node::LowerLink(target) => target.len(),
            Node::File { content: Content::Chunked { chunks, .. }, .. } => size_of_val(&**chunks),
            _ => 0,
        };
        self.charge(data + size_of_val(&*inode.metadata.xattrs))?;
        self.inodes.push(inode);
        Ok(id)
    }

    /// The inode `id`, which must come from this tree.
    #[must_use]
    pub fn get(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    /// The inode `id`, which must come from this tree.
    #[must_use]
    pub fn get_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.index()]
    }

    /// What `name` is in `directory`; `None` if nothing, or if `directory` is none.
    #[must_use]
    pub fn child(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        self.get(directory).directory()?.children.get(name).copied()
    }

    /// Gives `child` the name `name` in `directory`, which must be one.
    ///
    /// # Errors
    /// If the tree is full.
    pub fn link(
        &mut self,
        directory: InodeId,
        name: &[u8],
        child: InodeId,
    ) -> Result<(), TreeError> {
        self.charge(name.len() + ENTRY_BYTES)?;
        if let Some(data) = self.get_mut(child).directory_mut() {
            data.parent = directory;
        }
        let data = self.get_mut(directory).directory_mut().expect("entries go into directories");
        data.children.insert(name.into(), child);
        Ok(())
    }

    /// Adds `inode` and gives it a name.
    ///
    /// # Errors
    /// If the tree is full.
    pub fn insert(
        &mut self,
        directory: InodeId,
        name: &[u8],
        inode: Inode,
    ) -> Result<InodeId, TreeError> {
        let id = self.add(inode)?;
        self.link(directory, name, id)?;
        Ok(id)
    }

    /// Counts `bytes` towards [`TREE_BYTES_MAX`].
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), TreeError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > TREE_BYTES_MAX { Err(TreeError::Bytes) } else { Ok(()) }
    }

    /// Every inode, reachable or not.
    pub(crate) fn ids(&self) -> impl Iterator<Item = InodeId> + use<> {
        (0..u32::try_from(self.inodes.len()).expect("at most 2,000,000 inodes")).map(InodeId)
    }

    /// Sum of the sizes of the regular files that have a name, each file once.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        let mut counted = vec![false; self.inodes.len()];
        let mut total = 0_u64;
        let mut pending = vec![Self::ROOT];
        while let Some(id) = pending.pop() {
            if std::mem::replace(&mut counted[id.index()], true) {
                continue;
            }
            match &self.get(id).node {
                Node::Directory(data) => pending.extend(data.children.values()),
                Node::File { size, .. } => total = total.saturating_add(*size),
                _ => {}
            }
        }
        total
    }

    /// Inodes held, reachable or not.
    #[must_use]
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }
}
