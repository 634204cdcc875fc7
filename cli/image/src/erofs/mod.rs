//! EROFS images: the on-disk format, an in-memory tree, a writer and a reader.
//!
//! The format is the kernel's (`Documentation/filesystems/erofs.rst`), the uncompressed part of
//! it: 4 KiB blocks, compact and extended inodes, inline tails, shared extended attributes,
//! chunk indexes and a device table. What the bytes come from, tar streams or other images, is
//! the business of [`crate::layer`].
//!
//! ```text
//! [block 0: superblock, device table] [file data] [inodes, small content inline]
//! [directory blocks, long symlinks] [shared extended attributes]
//! ```

#![forbid(unsafe_code)]

mod directory;
mod disk;
mod import;
mod inode;
mod layout;
pub(crate) mod marker;
mod output;
mod reader;
mod source;
mod tree;
mod walk;
mod writer;
pub(crate) mod xattr;

pub use disk::BLOCK_SIZE;
pub use import::{ImportError, import};
pub use inode::{DirectoryEntry, FileType, InodeInfo};
pub use output::Appender;
pub use reader::{ReadError, Reader};
pub use source::{Source, Window};
pub use tree::{
    Content, DirectoryData, Extent, INODES_MAX, Inode, InodeId, Metadata, Node, Timestamp, Tree,
    TreeError,
};
pub(crate) use walk::{Step, Walk};
pub use writer::{DeviceSlot, InlineStore, WriteError, write_image};
pub use xattr::{Xattr, XattrId, XattrTable};
