//! The structures of an EROFS image as they lie on disk, all little-endian.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes in a block: the only block size every kernel can mount on x86-64 and arm64.
pub const BLOCK_SIZE: u32 = 4096;
/// log2 of [`BLOCK_SIZE`].
pub(super) const BLOCK_BITS: u8 = 12;
/// [`BLOCK_SIZE`] for arithmetic on offsets.
pub(super) const BLOCK: u64 = 4096;
/// [`BLOCK_SIZE`] for lengths in memory.
pub(super) const BLOCK_LEN: usize = 4096;

/// Byte offset of the superblock.
pub(super) const SUPER_OFFSET: usize = 1024;
/// First four bytes of the superblock.
pub(super) const SUPER_MAGIC: u32 = 0xE0F5_E1E2;
/// The superblock's checksum is filled in.
pub(super) const COMPAT_SB_CHKSUM: u32 = 0x1;
/// Times are modification times.
pub(super) const COMPAT_MTIME: u32 = 0x2;
/// Some inodes are chunk-based.
pub(super) const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
/// A device table follows the superblock.
pub(super) const INCOMPAT_DEVICE_TABLE: u32 = 0x8;

/// Bytes of a device slot, and the unit of the device table's offset.
pub(super) const DEVICE_SLOT_SIZE: usize = 128;
/// Bytes of an inode slot: a node id counts these.
pub(super) const SLOT_SIZE: u64 = 32;

/// Data in whole blocks from `raw_blkaddr` on.
pub(super) const LAYOUT_FLAT_PLAIN: u16 = 0;
/// As above, but the last, partial block follows the inode.
pub(super) const LAYOUT_FLAT_INLINE: u16 = 2;
/// Data located by an array of chunk indexes behind the inode.
pub(super) const LAYOUT_CHUNK_BASED: u16 = 4;
/// The chunk array holds eight-byte indexes, not four-byte block addresses.
pub(super) const CHUNK_FORMAT_INDEXES: u16 = 0x20;
/// Bits of the chunk format that hold log2(chunk size / block size).
pub(super) const CHUNK_FORMAT_BITS_MASK: u16 = 0x1f;
/// A block address that means "nothing is stored".
pub(super) const NULL_ADDRESS: u32 = u32::MAX;

/// Longest name in a directory, in bytes.
pub(super) const NAME_MAX: usize = 255;

/// The superblock.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SuperBlock {
    pub(super) magic: U32,
    /// CRC-32C (without final inversion) of the rest of block 0 from here, this field as zero.
    pub(super) checksum: U32,
    pub(super) feature_compat: U32,
    pub(super) block_bits: u8,
    pub(super) extension_slots: u8,
    pub(super) root_nid: U16,
    pub(super) inodes: U64,
    /// The time of every compact inode.
    pub(super) build_time: U64,
    pub(super) build_time_nanoseconds: U32,
    /// Blocks of the primary device.
    pub(super) blocks: U32,
    pub(super) meta_block: U32,
    pub(super) xattr_block: U32,
    pub(super) uuid: [u8; 16],
    pub(super) volume_name: [u8; 16],
    pub(super) feature_incompat: U32,
    pub(super) compression_algorithms: U16,
    pub(super) extra_devices: U16,
    /// Offset of the device table in units of [`DEVICE_SLOT_SIZE`].
    pub(super) device_table_slot: U16,
    pub(super) directory_block_bits: u8,
    pub(super) xattr_prefix_count: u8,
    pub(super) xattr_prefix_start: U32,
    pub(super) packed_nid: U64,
    pub(super) xattr_filter_reserved: u8,
    pub(super) reserved: [u8; 23],
}

/// One entry of the device table.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct DeviceSlotDisk {
    pub(super) tag: [u8; 64],
    pub(super) blocks: U32,
    /// Where the device starts when all stand one behind the other.
    pub(super) mapped_block: U32,
    pub(super) reserved: [u8; 56],
}

/// The 32-byte inode: 16-bit owner, 32-bit size, the superblock's time.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct InodeCompact {
    pub(super) format: U16,
    pub(super) xattr_count: U16,
    pub(super) mode: U16,
    pub(super) links: U16,
    pub(super) size: U32,
    pub(super) reserved: U32,
    /// Block address, device number or chunk format.
    pub(super) data: U32,
    pub(super) number: U32,
    pub(super) uid: U16,
    pub(super) gid: U16,
    pub(super) reserved_2: U32,
}

/// The 64-byte inode.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct InodeExtended {
    pub(super) format: U16,
    pub(super) xattr_count: U16,
    pub(super) mode: U16,
    pub(super) reserved: U16,
    pub(super) size: U64,
    /// Block address, device number or chunk format.
    pub(super) data: U32,
    pub(super) number: U32,
    pub(super) uid: U32,
    pub(super) gid: U32,
    pub(super) mtime: U64,
    pub(super) mtime_nanoseconds: U32,
    pub(super) links: U32,
    pub(super) reserved_2: [u8; 16],
}

/// Stands before an inode's extended attributes.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct XattrHeader {
    pub(super) name_filter: U32,
    pub(super) shared_count: u8,
    pub(super) reserved: [u8; 7],
}

/// Stands before the name and value of one extended attribute.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct XattrEntry {
    pub(super) name_length: u8,
    pub(super) name_index: u8,
    pub(super) value_size: U16,
}

/// Where a chunk's data is.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ChunkIndex {
    pub(super) advise: U16,
    pub(super) device: U16,
    pub(super) block: U32,
}

/// One entry of a directory block.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Dirent {
    pub(super) nid: U64,
    pub(super) name_offset: U16,
    pub(super) file_type: u8,
    pub(super) reserved: u8,
}

const _: () = {
    assert!(size_of::<SuperBlock>() == 128);
    assert!(size_of::<DeviceSlotDisk>() == DEVICE_SLOT_SIZE);
    assert!(size_of::<InodeCompact>() == 32);
    assert!(size_of::<InodeExtended>() == 64);
    assert!(size_of::<XattrHeader>() == 12);
    assert!(size_of::<XattrEntry>() == 4);
    assert!(size_of::<ChunkIndex>() == 8);
    assert!(size_of::<Dirent>() == 12);
};

/// Encodes a device number as inodes hold it (the kernel's `new_encode_dev`).
pub(super) fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// Undoes [`encode_device`]: major and minor number.
pub(super) fn decode_device(encoded: u32) -> (u32, u32) {
    ((encoded >> 8) & 0xfff, (encoded & 0xff) | ((encoded >> 12) & 0xf_ff00))
}

/// Blocks that `bytes` take up.
pub(super) fn blocks_of(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}
