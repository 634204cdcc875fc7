//! What a reader tells of an inode.

use super::disk::{CHUNK_FORMAT_BITS_MASK, blocks_of, decode_device};
use super::tree::{Node, Timestamp};

/// What kind of file an inode is; the numbers are those of directory entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum FileType {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A character device.
    CharDevice = 3,
    /// A block device.
    BlockDevice = 4,
    /// A named pipe.
    Fifo = 5,
    /// A socket.
    Socket = 6,
    /// A symbolic link.
    Symlink = 7,
}

impl FileType {
    /// How a node appears in an image.
    pub(super) fn of(node: &Node) -> Self {
        match node {
            Node::Directory(_) => Self::Directory,
            Node::File { .. } | Node::LowerLink(_) => Self::Regular,
            Node::Symlink(_) => Self::Symlink,
            Node::CharDevice(..) | Node::Whiteout => Self::CharDevice,
            Node::BlockDevice(..) => Self::BlockDevice,
            Node::Fifo => Self::Fifo,
            Node::Socket => Self::Socket,
        }
    }

    /// The type bits of a mode.
    #[must_use]
    pub fn mode(self) -> u16 {
        match self {
            Self::Regular => 0o10_0000,
            Self::Directory => 0o4_0000,
            Self::CharDevice => 0o2_0000,
            Self::BlockDevice => 0o6_0000,
            Self::Fifo => 0o1_0000,
            Self::Socket => 0o14_0000,
            Self::Symlink => 0o12_0000,
        }
    }

    pub(super) fn of_mode(mode: u16) -> Option<Self> {
        [
            Self::Regular,
            Self::Directory,
            Self::CharDevice,
            Self::BlockDevice,
            Self::Fifo,
            Self::Socket,
            Self::Symlink,
        ]
        .into_iter()
        .find(|kind| kind.mode() == mode & 0o17_0000)
    }
}

/// An inode as the image states it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InodeInfo {
    /// Node id: unique in the image.
    pub nid: u64,
    /// Kind.
    pub file_type: FileType,
    /// The low twelve bits of the mode.
    pub permissions: u16,
    /// Names that it has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Bytes of content.
    pub size: u64,
    pub(super) layout: u16,
    /// Block address, device number or chunk format.
    pub(super) data: u32,
    /// Offset of the attribute body in the image.
    pub(super) xattr_offset: u64,
    pub(super) xattr_size: usize,
}

impl InodeInfo {
    /// Major and minor number, of a device.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        decode_device(self.data)
    }

    /// Offset of what follows the inode and its attributes.
    pub(super) fn tail_offset(&self) -> u64 {
        self.xattr_offset + self.xattr_size as u64
    }

    /// log2(blocks) of a chunk, and how many chunks there are.
    pub(super) fn chunks(&self) -> (u8, u64) {
        let bits = self.data & u32::from(CHUNK_FORMAT_BITS_MASK);
        let count = blocks_of(self.size).div_ceil(1 << bits);
        (u8::try_from(bits).expect("five bits"), count)
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryEntry {
    /// Name.
    pub name: Box<[u8]>,
    /// Node id.
    pub nid: u64,
}
