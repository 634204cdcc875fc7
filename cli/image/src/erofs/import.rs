//! Reads a layer image into a tree.

use std::collections::HashMap;

use super::disk::{BLOCK, LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE, blocks_of};
use super::inode::{FileType, InodeInfo};
use super::marker;
use super::reader::{ReadError, Reader};
use super::source::Source;
use super::tree::{
    Content, DirectoryData, Extent, Inode, InodeId, Metadata, Node, Tree, TreeError,
};

/// Why an image could not become a tree.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The image is unsound.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The image holds too much.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Reads a layer image into a tree in which the image is device number `device`: content in
/// blocks refers to that device, small content to that inline store.
///
/// # Errors
/// If the image is unsound or over a limit.
pub fn import<S: Source>(reader: &Reader<S>, device: u16) -> Result<Tree, ImportError> {
    if reader.has_devices() {
        return Err(ReadError::Unsupported("other devices").into());
    }
    let mut tree = Tree::default();
    let root = reader.inode(reader.root())?;
    let imported = inode(reader, &root, device, &mut tree)?;
    if imported.directory().is_none() {
        return Err(ReadError::Corrupt("the root is not a directory").into());
    }
    *tree.get_mut(Tree::ROOT) = imported;
    let mut known = HashMap::from([(root.nid, Tree::ROOT)]);
    let mut pending = vec![(root, Tree::ROOT)];
    while let Some((info, id)) = pending.pop() {
        for entry in reader.list(&info)? {
            let child = match known.get(&entry.nid) {
                Some(child) if tree.get(*child).directory().is_some() => {
                    return Err(ReadError::Corrupt("a directory has two names").into());
                }
                Some(child) => *child,
                None => add(reader, entry.nid, device, &mut tree, &mut pending)?,
            };
            known.insert(entry.nid, child);
            tree.link(id, &entry.name, child)?;
        }
    }
    Ok(tree)
}

/// Adds an inode that was not met before; a directory is queued to be listed.
fn add<S: Source>(
    reader: &Reader<S>,
    nid: u64,
    device: u16,
    tree: &mut Tree,
    pending: &mut Vec<(InodeInfo, InodeId)>,
) -> Result<InodeId, ImportError> {
    let info = reader.inode(nid)?;
    let imported = inode(reader, &info, device, tree)?;
    let id = tree.add(imported)?;
    if info.file_type == FileType::Directory {
        pending.push((info, id));
    }
    Ok(id)
}

/// Reads one inode, a directory still without its entries.
fn inode<S: Source>(
    reader: &Reader<S>,
    info: &InodeInfo,
    device: u16,
    tree: &mut Tree,
) -> Result<Inode, ImportError> {
    let mut xattrs = reader.xattrs(info)?;
    let markers = marker::detach(&mut xattrs);
    let ids: Result<_, TreeError> =
        xattrs.into_iter().map(|xattr| tree.xattrs.intern(xattr)).collect();
    let metadata = Metadata {
        permissions: info.permissions,
        uid: info.uid,
        gid: info.gid,
        mtime: info.mtime,
        xattrs: ids?,
    };
    let node = match (info.file_type, info.device()) {
        (FileType::Directory, _) => Node::Directory(DirectoryData {
            opaque: markers.opaque,
            implied: markers.implied,
            ..DirectoryData::default()
        }),
        (FileType::Regular, _) => match markers.lower_link {
            Some(target) => Node::LowerLink(target),
            None => Node::File { size: info.size, content: content(reader, info, device)? },
        },
        (FileType::Symlink, _) => Node::Symlink(reader.read_link(info)?.into()),
        (FileType::CharDevice, (0, 0)) => Node::Whiteout,
        (FileType::CharDevice, (major, minor)) => Node::CharDevice(major, minor),
        (FileType::BlockDevice, (major, minor)) => Node::BlockDevice(major, minor),
        (FileType::Fifo, _) => Node::Fifo,
        (FileType::Socket, _) => Node::Socket,
    };
    Ok(Inode { metadata, node })
}

/// Where the content of a regular file is, checked against the size of the image.
fn content<S: Source>(
    reader: &Reader<S>,
    info: &InodeInfo,
    device: u16,
) -> Result<Content, ImportError> {
    let outside = ReadError::Corrupt("content lies outside the image");
    let fits = |block: u32, blocks: u64| {
        u64::from(block).checked_add(blocks).is_some_and(|end| end <= reader.size() / BLOCK)
    };
    if info.size == 0 {
        return Ok(Content::Inline { store: device, offset: 0 });
    }
    if info.layout == LAYOUT_FLAT_INLINE {
        if info.size >= BLOCK {
            return Err(ReadError::Unsupported("inline tails of longer files").into());
        }
        if info.tail_offset() + info.size > reader.size() {
            return Err(outside.into());
        }
        return Ok(Content::Inline { store: device, offset: info.tail_offset() });
    }
    let blocks = blocks_of(info.size);
    if info.layout != LAYOUT_CHUNK_BASED {
        if !fits(info.data, blocks) {
            return Err(outside.into());
        }
        return Ok(Content::Contiguous(Extent { device, block: info.data }));
    }
    let (bits, count) = info.chunks();
    if count > reader.size() / 8 {
        return Err(ReadError::Corrupt("a file has more chunks than fit the image").into());
    }
    let mut chunks = Vec::new();
    for index in 0..count {
        let chunk = reader.chunk(info, index)?;
        let length = (blocks - (index << bits)).min(1 << bits);
        if chunk.is_some_and(|extent| extent.device != 0 || !fits(extent.block, length)) {
            return Err(outside.into());
        }
        chunks.push(chunk.map(|extent| Extent { device, block: extent.block }));
    }
    Ok(Content::Chunked { bits, chunks: chunks.into() })
}
