//! Writes a tree as an EROFS image.

use std::io;

use zerocopy::{FromZeros, IntoBytes};

use super::directory::{self, Entry};
use super::disk::{
    BLOCK, BLOCK_BITS, BLOCK_LEN, CHUNK_FORMAT_INDEXES, COMPAT_MTIME, COMPAT_SB_CHKSUM, ChunkIndex,
    DEVICE_SLOT_SIZE, DeviceSlotDisk, INCOMPAT_CHUNKED_FILE, INCOMPAT_DEVICE_TABLE, InodeCompact,
    InodeExtended, LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE, NULL_ADDRESS, SUPER_MAGIC, SUPER_OFFSET,
    SuperBlock, blocks_of, encode_device,
};
use super::inode::FileType;
use super::layout::{Layout, Placed, names_with_dots};
use super::output::Appender;
use super::tree::{Content, Extent, Node, Tree};
use super::xattr::count_of_body;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file could not be written.
    #[error("failed to write the image file")]
    Write(#[source] io::Error),
    /// Small content could not be read from its store.
    #[error("failed to read the content of a small file")]
    Content(#[source] io::Error),
    /// The image and its devices are over 16 TiB.
    #[error("the image is over 16 TiB, the end of 32-bit block addresses")]
    TooLarge,
    /// Content does not fit next to its inode.
    #[error("{size} bytes do not fit into one block with their inode")]
    InlineTooLong {
        /// Bytes.
        size: u64,
    },
}

/// Where the bytes of [`Content::Inline`] are read from.
pub trait InlineStore {
    /// Fills `buffer` from byte `offset` of store number `store`.
    ///
    /// # Errors
    /// If there are no such bytes.
    fn read(&self, store: u16, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A device whose blocks the image refers to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceSlot {
    /// Its size in blocks.
    pub blocks: u32,
}

/// Bytes at the start of an image that the superblock and a table of `devices` take up.
pub(crate) fn header_size(devices: usize) -> u64 {
    let end = SUPER_OFFSET + size_of::<SuperBlock>() + devices * DEVICE_SLOT_SIZE;
    (end as u64).next_multiple_of(BLOCK)
}

/// Writes the metadata of `tree` behind what `output` holds already, then the superblock, and
/// returns the size of the image in bytes, whole blocks.
///
/// Data on device 0 must lie before the output's position; the devices follow the image in the
/// order of `devices` when all are one.
///
/// # Errors
/// If the image is too large or cannot be written.
pub fn write_image(
    tree: &Tree,
    store: &dyn InlineStore,
    mut output: Appender,
    devices: &[DeviceSlot],
) -> Result<u64, WriteError> {
    output
        .skip_to(output.position().next_multiple_of(BLOCK).max(header_size(devices.len())))
        .map_err(WriteError::Write)?;
    let layout = Layout::new(tree)?;
    let start = output.position();
    let xattr_start = start + layout.inode_bytes + layout.blocks * BLOCK;
    let end = (xattr_start + layout.shared.bytes.len() as u64).next_multiple_of(BLOCK);
    let mut image = Image { tree, store, layout: &layout, start, output };
    image.write_inodes()?;
    image.write_blocks()?;
    let mut output = image.output;
    output.write(&layout.shared.bytes).map_err(WriteError::Write)?;
    output.skip_to(end).map_err(WriteError::Write)?;
    let header = header(&layout, start, xattr_start, end, devices)?;
    output.finish(&header).map_err(WriteError::Write)
}

/// An image in the middle of being written.
struct Image<'a> {
    tree: &'a Tree,
    store: &'a dyn InlineStore,
    layout: &'a Layout,
    /// Byte offset of the inode area.
    start: u64,
    output: Appender<'a>,
}

impl Image<'_> {
    /// Writes the inode area.
    fn write_inodes(&mut self) -> Result<(), WriteError> {
        let mut record = Vec::with_capacity(BLOCK_LEN);
        for (number, placed) in (1_u32..).zip(&self.layout.inodes) {
            record.clear();
            self.encode_inode(placed, number, &mut record)?;
            let ids = &self.tree.get(placed.id).metadata.xattrs;
            self.layout.shared.encode_body(&self.tree.xattrs, ids, &mut record);
            self.encode_tail(placed, &mut record)?;
            self.output.skip_to(self.start + placed.offset).map_err(WriteError::Write)?;
            self.output.write(&record).map_err(WriteError::Write)?;
        }
        self.output.skip_to(self.start + self.layout.inode_bytes).map_err(WriteError::Write)
    }

    /// Appends what follows an inode and its attributes.
    fn encode_tail(&self, placed: &Placed, record: &mut Vec<u8>) -> Result<(), WriteError> {
        let node = &self.tree.get(placed.id).node;
        match (placed.layout, node) {
            (LAYOUT_CHUNK_BASED, Node::File { content, .. }) => {
                record.resize(record.len().next_multiple_of(8), 0);
                match content {
                    Content::Contiguous(extent) => encode_chunk(Some(*extent), record),
                    Content::Chunked { chunks, .. } => {
                        chunks.iter().for_each(|chunk| encode_chunk(*chunk, record));
                    }
                    Content::Inline { .. } => {}
                }
            }
            (
                LAYOUT_FLAT_INLINE,
                Node::File { content: Content::Inline { store, offset }, size },
            ) => {
                let from = record.len();
                record.resize(from + usize::try_from(*size).expect("less than a block"), 0);
                self.store
                    .read(*store, *offset, &mut record[from..])
                    .map_err(WriteError::Content)?;
            }
            (LAYOUT_FLAT_INLINE, _) => {
                let bytes = self.own_bytes(placed);
                record.extend_from_slice(&bytes[bytes.len() / BLOCK_LEN * BLOCK_LEN..]);
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the block area: directories and symlinks as far as they are not inline.
    fn write_blocks(&mut self) -> Result<(), WriteError> {
        for placed in self.layout.inodes.iter().filter(|placed| placed.first_block.is_some()) {
            let bytes = self.own_bytes(placed);
            let length = usize::try_from(placed.bytes_in_blocks()).expect("the bytes are here");
            self.output.write(&bytes[..length]).map_err(WriteError::Write)?;
            self.output.skip_to_block().map_err(WriteError::Write)?;
        }
        Ok(())
    }

    /// The content of a directory or symlink.
    fn own_bytes(&self, placed: &Placed) -> Vec<u8> {
        match &self.tree.get(placed.id).node {
            Node::Symlink(target) => target.to_vec(),
            Node::Directory(data) => {
                let entries: Vec<Entry> = names_with_dots(data)
                    .into_iter()
                    .map(|name| {
                        let id = match name {
                            b"." => placed.id,
                            b".." => data.parent,
                            _ => data.children[name],
                        };
                        let file_type = FileType::of(&self.tree.get(id).node) as u8;
                        Entry { name, nid: self.layout.place_of(id).nid(), file_type }
                    })
                    .collect();
                directory::encode(&entries)
            }
            _ => Vec::new(),
        }
    }

    /// Appends the inode itself.
    fn encode_inode(
        &self,
        placed: &Placed,
        number: u32,
        record: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        let inode = self.tree.get(placed.id);
        let metadata = &inode.metadata;
        let mode = FileType::of(&inode.node).mode() | metadata.permissions;
        let xattr_count = count_of_body(placed.xattr_size);
        let data = self.data_field(placed)?;
        if placed.extended {
            let disk = InodeExtended {
                format: (1 | placed.layout << 1).into(),
                xattr_count: xattr_count.into(),
                mode: mode.into(),
                size: placed.size.into(),
                data: data.into(),
                number: number.into(),
                uid: metadata.uid.into(),
                gid: metadata.gid.into(),
                mtime: metadata.mtime.seconds.cast_unsigned().into(),
                mtime_nanoseconds: metadata.mtime.nanoseconds.into(),
                links: placed.links.into(),
                ..InodeExtended::new_zeroed()
            };
            record.extend_from_slice(disk.as_bytes());
        } else {
            let narrow = "compact inodes were chosen for values that fit";
            let disk = InodeCompact {
                format: (placed.layout << 1).into(),
                xattr_count: xattr_count.into(),
                mode: mode.into(),
                links: u16::try_from(placed.links).expect(narrow).into(),
                size: u32::try_from(placed.size).expect(narrow).into(),
                data: data.into(),
                number: number.into(),
                uid: u16::try_from(metadata.uid).expect(narrow).into(),
                gid: u16::try_from(metadata.gid).expect(narrow).into(),
                ..InodeCompact::new_zeroed()
            };
            record.extend_from_slice(disk.as_bytes());
        }
        Ok(())
    }

    /// Block address, device number or chunk format.
    fn data_field(&self, placed: &Placed) -> Result<u32, WriteError> {
        if let Some(block) = placed.first_block {
            return block_address(self.start + self.layout.inode_bytes + block * BLOCK);
        }
        Ok(match &self.tree.get(placed.id).node {
            Node::CharDevice(major, minor) | Node::BlockDevice(major, minor) => {
                encode_device(*major, *minor)
            }
            Node::Fifo | Node::Socket | Node::Whiteout => 0,
            Node::File { content: Content::Chunked { bits, .. }, .. } => {
                u32::from(CHUNK_FORMAT_INDEXES) | u32::from(*bits)
            }
            Node::File { size, content: Content::Contiguous(_) }
                if placed.layout == LAYOUT_CHUNK_BASED =>
            {
                u32::from(CHUNK_FORMAT_INDEXES) | single_chunk_bits(*size)
            }
            Node::File { content: Content::Contiguous(extent), .. } => extent.block,
            _ => NULL_ADDRESS,
        })
    }
}

/// log2(blocks) of the smallest chunk that holds `size` bytes.
fn single_chunk_bits(size: u64) -> u32 {
    blocks_of(size).max(1).next_power_of_two().trailing_zeros()
}

fn encode_chunk(chunk: Option<Extent>, record: &mut Vec<u8>) {
    let extent = chunk.unwrap_or(Extent { device: 0, block: NULL_ADDRESS });
    let index =
        ChunkIndex { advise: 0.into(), device: extent.device.into(), block: extent.block.into() };
    record.extend_from_slice(index.as_bytes());
}

/// The block address of byte `offset`, a whole block.
fn block_address(offset: u64) -> Result<u32, WriteError> {
    u32::try_from(offset / BLOCK).map_err(|_| WriteError::TooLarge)
}

/// Superblock and device table, with the checksum filled in.
fn header(
    layout: &Layout,
    start: u64,
    xattr_start: u64,
    end: u64,
    devices: &[DeviceSlot],
) -> Result<Vec<u8>, WriteError> {
    let table_offset = SUPER_OFFSET + size_of::<SuperBlock>();
    let mut incompat = if layout.chunked { INCOMPAT_CHUNKED_FILE } else { 0 };
    if !devices.is_empty() {
        incompat |= INCOMPAT_DEVICE_TABLE;
    }
    let table_slot = if devices.is_empty() { 0 } else { table_offset / DEVICE_SLOT_SIZE };
    let blocks = block_address(end)?;
    let super_block = SuperBlock {
        magic: SUPER_MAGIC.into(),
        feature_compat: (COMPAT_SB_CHKSUM | COMPAT_MTIME).into(),
        block_bits: BLOCK_BITS,
        root_nid: u16::try_from(layout.place_of(Tree::ROOT).nid())
            .expect("the root comes first")
            .into(),
        inodes: (layout.inodes.len() as u64).into(),
        build_time: layout.epoch.seconds.cast_unsigned().into(),
        build_time_nanoseconds: layout.epoch.nanoseconds.into(),
        blocks: blocks.into(),
        meta_block: block_address(start)?.into(),
        xattr_block: block_address(xattr_start)?.into(),
        feature_incompat: incompat.into(),
        extra_devices: u16::try_from(devices.len()).map_err(|_| WriteError::TooLarge)?.into(),
        device_table_slot: u16::try_from(table_slot).expect("it is in block 0").into(),
        ..SuperBlock::new_zeroed()
    };
    let header_len = usize::try_from(header_size(devices.len())).expect("a few blocks");
    let mut bytes = Vec::with_capacity(header_len);
    bytes.resize(SUPER_OFFSET, 0);
    bytes.extend_from_slice(super_block.as_bytes());
    let mut mapped = blocks;
    for device in devices {
        let slot = DeviceSlotDisk {
            tag: [0; 64],
            blocks: device.blocks.into(),
            mapped_block: mapped.into(),
            reserved: [0; 56],
        };
        bytes.extend_from_slice(slot.as_bytes());
        mapped = mapped.checked_add(device.blocks).ok_or(WriteError::TooLarge)?;
    }
    bytes.resize(header_len, 0);
    let checksum = !crc32c::crc32c(&bytes[SUPER_OFFSET..BLOCK_LEN]);
    bytes[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}
