//! Where everything of an image's metadata goes: decided from sizes alone, before a byte is
//! written, because directories hold the numbers of inodes that come after them.

use std::collections::HashMap;

use super::directory;
use super::disk::{
    BLOCK, ChunkIndex, InodeCompact, InodeExtended, LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE,
    LAYOUT_FLAT_PLAIN, SLOT_SIZE, blocks_of,
};
use super::tree::{Content, DirectoryData, InodeId, Metadata, Node, Timestamp, Tree};
use super::writer::WriteError;
use super::xattr::SharedXattrs;

/// Not (yet) part of the image.
const UNPLACED: u32 = u32::MAX;

/// One inode's place.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) id: InodeId,
    pub(super) links: u32,
    pub(super) extended: bool,
    /// Bytes of the attribute body.
    pub(super) xattr_size: usize,
    /// Bytes of the content as the inode states them.
    pub(super) size: u64,
    /// Data layout.
    pub(super) layout: u16,
    /// Byte offset in the inode area.
    pub(super) offset: u64,
    /// First of its blocks in the block area, if it has any there.
    pub(super) first_block: Option<u64>,
}

impl Placed {
    /// Node id.
    pub(super) fn nid(&self) -> u64 {
        self.offset / SLOT_SIZE
    }

    /// Bytes of the inode itself.
    pub(super) fn inode_size(&self) -> usize {
        if self.extended { size_of::<InodeExtended>() } else { size_of::<InodeCompact>() }
    }

    /// Bytes that the block area holds of the content.
    pub(super) fn bytes_in_blocks(&self) -> u64 {
        match (self.first_block, self.layout) {
            (None, _) => 0,
            (Some(_), LAYOUT_FLAT_INLINE) => self.size / BLOCK * BLOCK,
            (Some(_), _) => self.size,
        }
    }
}

/// The plan of an image's metadata.
pub(super) struct Layout {
    /// Inodes in the order of the inode area: breadth first, so that a directory's inodes lie
    /// side by side.
    pub(super) inodes: Vec<Placed>,
    /// Index in `inodes` by inode id.
    places: Vec<u32>,
    /// Time of the compact inodes.
    pub(super) epoch: Timestamp,
    pub(super) shared: SharedXattrs,
    /// Bytes of the inode area, whole blocks.
    pub(super) inode_bytes: u64,
    /// Blocks of the block area.
    pub(super) blocks: u64,
    /// Whether an inode is chunk-based.
    pub(super) chunked: bool,
}

impl Layout {
    /// Plans the inodes that can be reached from the root.
    pub(super) fn new(tree: &Tree) -> Result<Self, WriteError> {
        let (inodes, places) = reachable(tree);
        let epoch = most_frequent_time(tree, &inodes);
        let mut uses = vec![0; tree.xattrs.len()];
        for placed in &inodes {
            for id in &tree.get(placed.id).metadata.xattrs {
                uses[id.index()] += 1;
            }
        }
        let shared = SharedXattrs::new(&tree.xattrs, &uses);
        let mut layout =
            Self { inodes, places, epoch, shared, inode_bytes: 0, blocks: 0, chunked: false };
        layout.place(tree)?;
        Ok(layout)
    }

    /// The place of a reachable inode.
    pub(super) fn place_of(&self, id: InodeId) -> &Placed {
        &self.inodes[self.places[id.index()] as usize]
    }

    /// Decides sizes, layouts and offsets.
    fn place(&mut self, tree: &Tree) -> Result<(), WriteError> {
        // Slot 0 stays empty: some programs take inode number 0 for a deleted file.
        let mut end = SLOT_SIZE;
        for placed in &mut self.inodes {
            let inode = tree.get(placed.id);
            placed.size = size_of_node(&inode.node);
            placed.extended = needs_extended(&inode.metadata, placed, self.epoch);
            placed.xattr_size = self.shared.body_size(&tree.xattrs, &inode.metadata.xattrs);
            let head = placed.inode_size() + placed.xattr_size;
            let (layout, tail) = choose_layout(&inode.node, placed.size, head)?;
            placed.layout = layout;
            self.chunked |= layout == LAYOUT_CHUNK_BASED;
            let need = (head + tail) as u64;
            placed.offset = end.next_multiple_of(SLOT_SIZE);
            // Inline content must not cross a block boundary; the rest is read faster so.
            if placed.offset % BLOCK + need > BLOCK {
                placed.offset = placed.offset.next_multiple_of(BLOCK);
            }
            end = placed.offset + need;
            let own_blocks = match (&inode.node, layout) {
                (Node::Directory(_) | Node::Symlink(_), LAYOUT_FLAT_INLINE) => placed.size / BLOCK,
                (Node::Directory(_) | Node::Symlink(_), _) => blocks_of(placed.size),
                _ => 0,
            };
            placed.first_block = (own_blocks > 0).then_some(self.blocks);
            self.blocks += own_blocks;
        }
        self.inode_bytes = end.next_multiple_of(BLOCK);
        Ok(())
    }
}

/// Lists the reachable inodes breadth first and counts their links.
fn reachable(tree: &Tree) -> (Vec<Placed>, Vec<u32>) {
    let mut places = vec![UNPLACED; tree.inode_count()];
    let mut inodes = vec![unplaced(Tree::ROOT)];
    inodes[0].links = 2;
    places[Tree::ROOT.index()] = 0;
    let mut next = 0;
    while let Some(directory) = inodes.get(next).map(|placed| placed.id) {
        let children = tree.get(directory).directory().map(|data| data.children.values());
        for child in children.into_iter().flatten() {
            let is_directory = tree.get(*child).directory().is_some();
            let known = places[child.index()];
            if known == UNPLACED {
                places[child.index()] =
                    u32::try_from(inodes.len()).expect("a tree holds at most 2,000,000 inodes");
                inodes.push(unplaced(*child));
            }
            let place = places[child.index()] as usize;
            if is_directory {
                inodes[place].links = 2;
                inodes[next].links += 1;
            } else {
                inodes[place].links += 1;
            }
        }
        next += 1;
    }
    (inodes, places)
}

fn unplaced(id: InodeId) -> Placed {
    Placed {
        id,
        links: 0,
        extended: false,
        xattr_size: 0,
        size: 0,
        layout: LAYOUT_FLAT_PLAIN,
        offset: 0,
        first_block: None,
    }
}

/// The time that lets the most inodes be compact; the earliest if there are several.
fn most_frequent_time(tree: &Tree, inodes: &[Placed]) -> Timestamp {
    let mut counts: HashMap<Timestamp, u32> = HashMap::new();
    for placed in inodes {
        *counts.entry(tree.get(placed.id).metadata.mtime).or_default() += 1;
    }
    counts
        .into_iter()
        .max_by_key(|(time, count)| (*count, std::cmp::Reverse(*time)))
        .map_or_else(Timestamp::default, |(time, _)| time)
}

/// Whether the compact inode cannot express this one.
fn needs_extended(metadata: &Metadata, placed: &Placed, epoch: Timestamp) -> bool {
    metadata.mtime != epoch
        || metadata.uid > u32::from(u16::MAX)
        || metadata.gid > u32::from(u16::MAX)
        || placed.links > u32::from(u16::MAX)
        || placed.size > u64::from(u32::MAX)
}

/// Bytes of content as the inode states them.
fn size_of_node(node: &Node) -> u64 {
    match node {
        Node::Directory(data) => {
            directory::encoded_size(names_with_dots(data).iter().map(|name| name.len()))
        }
        Node::File { size, .. } => *size,
        Node::Symlink(target) => target.len() as u64,
        _ => 0,
    }
}

/// A directory's names in order, `.` and `..` in their places.
pub(super) fn names_with_dots(data: &DirectoryData) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = Vec::with_capacity(data.children.len() + 2);
    names.extend(data.children.keys().map(AsRef::as_ref));
    for dots in [b".".as_slice(), b".."] {
        names.insert(names.partition_point(|name| *name < dots), dots);
    }
    names
}

/// Data layout, and bytes behind the inode's `head` (inode and attributes).
fn choose_layout(node: &Node, size: u64, head: usize) -> Result<(u16, usize), WriteError> {
    let tail = usize::try_from(size % BLOCK).expect("less than a block");
    let tail_fits = tail > 0 && (head + tail) as u64 <= BLOCK;
    Ok(match node {
        Node::Directory(_) | Node::Symlink(_) if tail_fits => (LAYOUT_FLAT_INLINE, tail),
        Node::File { content: Content::Inline { .. }, size } if *size > 0 => {
            if *size >= BLOCK || !tail_fits {
                return Err(WriteError::InlineTooLong { size: *size });
            }
            (LAYOUT_FLAT_INLINE, tail)
        }
        Node::File { content: Content::Chunked { chunks, .. }, .. } => {
            (LAYOUT_CHUNK_BASED, chunk_indexes(head, chunks.len()))
        }
        Node::File { content: Content::Contiguous(extent), .. } if extent.device != 0 => {
            (LAYOUT_CHUNK_BASED, chunk_indexes(head, 1))
        }
        _ => (LAYOUT_FLAT_PLAIN, 0),
    })
}

/// Bytes of `count` chunk indexes behind `head`, alignment included.
fn chunk_indexes(head: usize, count: usize) -> usize {
    head.next_multiple_of(8) - head + count * size_of::<ChunkIndex>()
}
