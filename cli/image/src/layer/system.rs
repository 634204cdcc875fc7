//! The image that a guest boots into before any container's: one program and empty directories.

use std::fs::File;

use super::error::LayerError;
use super::limits::{INLINE_LEN_MAX, NAME_LEN_MAX};
use super::store::Arena;
use crate::erofs::{
    Appender, BLOCK_SIZE, Content, DirectoryData, Extent, Inode, InodeId, Metadata, Node, Tree,
    TreeError, WriteError, write_image,
};

/// Where a guest's file systems are mounted.
const DIRECTORIES: [(&str, u16); 8] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
];

/// Writes the image; see [`super::system_image`].
pub(super) fn write(name: &str, program: &[u8], output: &File) -> Result<(), LayerError> {
    let legal = (1..=NAME_LEN_MAX).contains(&name.len())
        && !name.contains(['/', '\0'])
        && !matches!(name, "." | "..");
    if !legal {
        return Err(LayerError::ProgramName(name.to_owned()));
    }
    let write_error = |source| LayerError::Write(WriteError::Write(source));
    let mut output = Appender::new(output).map_err(write_error)?;
    output.skip_to(u64::from(BLOCK_SIZE)).map_err(write_error)?;
    let size = program.len() as u64;
    let content = if size <= INLINE_LEN_MAX {
        Content::Inline { store: 0, offset: 0 }
    } else {
        output.write(program).map_err(write_error)?;
        Content::Contiguous(Extent { device: 0, block: 1 })
    };
    let tree = tree(name, Node::File { size, content }).expect("a dozen files fit any tree");
    let arena = Arena::from(program.get(..2048).unwrap_or(program).to_vec());
    write_image(&tree, &arena, output, &[])?;
    Ok(())
}

fn tree(name: &str, program: Node) -> Result<Tree, TreeError> {
    let mut tree = Tree::default();
    for (name, permissions) in DIRECTORIES {
        directory(&mut tree, name, permissions)?;
    }
    let sbin = directory(&mut tree, "sbin", 0o755)?;
    let metadata = Metadata { permissions: 0o755, ..Metadata::default() };
    tree.insert(sbin, name.as_bytes(), Inode { metadata, node: program })?;
    Ok(tree)
}

fn directory(tree: &mut Tree, name: &str, permissions: u16) -> Result<InodeId, TreeError> {
    let metadata = Metadata { permissions, ..Metadata::default() };
    let node = Node::Directory(DirectoryData::default());
    tree.insert(Tree::ROOT, name.as_bytes(), Inode { metadata, node })
}
