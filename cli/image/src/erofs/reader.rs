//! Reads an image: superblock, inodes, directories, content, attributes.
//!
//! Images are bytes from strangers: every offset is checked, every size is bounded by the
//! image's own before memory is taken, and nothing recurses.

use std::io;

use zerocopy::FromBytes;

use super::directory;
use super::disk::{
    BLOCK, BLOCK_BITS, BLOCK_LEN, CHUNK_FORMAT_BITS_MASK, CHUNK_FORMAT_INDEXES, ChunkIndex,
    DEVICE_SLOT_SIZE, DeviceSlotDisk, INCOMPAT_CHUNKED_FILE, INCOMPAT_DEVICE_TABLE, InodeCompact,
    InodeExtended, LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE, LAYOUT_FLAT_PLAIN, NULL_ADDRESS,
    SLOT_SIZE, SUPER_MAGIC, SUPER_OFFSET, SuperBlock,
};
use super::inode::{DirectoryEntry, FileType, InodeInfo};
use super::source::Source;
use super::tree::{Extent, Timestamp};
use super::xattr::{Xattr, body_of_count, decode_body};

/// Symlinks followed before a path is called a loop, as Linux does.
const SYMLINKS_MAX: u32 = 40;
/// Longest symlink target.
const SYMLINK_MAX: u64 = 4095;
/// Bytes of an attribute in the shared area: header, name, value.
const SHARED_XATTR_MAX: u64 = 4 + 255 + 65_536;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are there but could not be read.
    #[error("failed to read the image file")]
    Read(#[source] io::Error),
    /// Not an EROFS image, or one whose writer did not finish.
    #[error("not a finished EROFS image")]
    NotErofs,
    /// A feature that our writer never uses.
    #[error("the image uses {0}, which is not supported")]
    Unsupported(&'static str),
    /// Something contradicts itself.
    #[error("the image is corrupt: {0}")]
    Corrupt(&'static str),
    /// The file is larger than the caller wants to hold.
    #[error("the file is {size} bytes, over the limit of {limit}")]
    FileTooLarge {
        /// Its size.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// The path leads round in circles.
    #[error("more than 40 symlinks on the way")]
    SymlinkLoop,
}

/// A device behind the image.
#[derive(Clone, Copy, Debug)]
struct Device {
    blocks: u32,
    mapped_block: u32,
}

/// Reads one image, together with the devices it refers to.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    /// If empty, the devices follow the image in `source`.
    devices: Vec<S>,
    slots: Vec<Device>,
    size: u64,
    meta_start: u64,
    xattr_start: u64,
    root: u64,
    epoch: Timestamp,
}

impl<S: Source> Reader<S> {
    /// Opens an image whose devices, if it has any, follow it in the same source.
    ///
    /// # Errors
    /// If it is not an image that our writer could have written.
    pub fn open(source: S) -> Result<Self, ReadError> {
        Self::with_devices(source, Vec::new())
    }

    /// Opens an image whose devices are sources of their own.
    ///
    /// # Errors
    /// If it is not an image that our writer could have written.
    pub fn with_devices(source: S, devices: Vec<S>) -> Result<Self, ReadError> {
        let size = source.size().map_err(ReadError::Read)?;
        if size < BLOCK {
            return Err(ReadError::NotErofs);
        }
        let mut block = vec![0; BLOCK_LEN];
        source.read_exact_at(&mut block, 0).map_err(ReadError::Read)?;
        let super_block = parse_super_block(&block)?;
        let blocks = super_block.blocks.get();
        let within = |block: u32| {
            (block <= blocks).then_some(u64::from(block) * BLOCK).ok_or(ReadError::NotErofs)
        };
        let mut reader = Self {
            slots: Vec::new(),
            size: within(blocks)?,
            meta_start: within(super_block.meta_block.get())?,
            xattr_start: within(super_block.xattr_block.get())?,
            root: u64::from(super_block.root_nid.get()),
            epoch: timestamp(
                super_block.build_time.get(),
                super_block.build_time_nanoseconds.get(),
            )?,
            source,
            devices,
        };
        if reader.size > size {
            return Err(ReadError::Corrupt("it is shorter than its superblock says"));
        }
        reader.read_device_table(&super_block)?;
        Ok(reader)
    }

    fn read_device_table(&mut self, super_block: &SuperBlock) -> Result<(), ReadError> {
        if super_block.feature_incompat.get() & INCOMPAT_DEVICE_TABLE == 0 {
            return Ok(());
        }
        let count = usize::from(super_block.extra_devices.get());
        let start = u64::from(super_block.device_table_slot.get()) * DEVICE_SLOT_SIZE as u64;
        let bytes = self.bytes_at(start, count * DEVICE_SLOT_SIZE)?;
        let slots = <[DeviceSlotDisk]>::ref_from_bytes(&bytes)
            .map_err(|_| ReadError::Corrupt("the device table is cut short"))?;
        self.slots = slots
            .iter()
            .map(|slot| Device { blocks: slot.blocks.get(), mapped_block: slot.mapped_block.get() })
            .collect();
        if !self.devices.is_empty() && self.devices.len() != self.slots.len() {
            return Err(ReadError::Corrupt("it refers to another number of devices"));
        }
        Ok(())
    }

    /// Node id of the root directory.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Whether the image refers to other devices.
    #[must_use]
    pub fn has_devices(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Bytes of the image itself, whole blocks.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads `length` bytes of the image at `offset`, after checking that it has them.
    fn bytes_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(ReadError::Corrupt("an offset lies outside"));
        }
        let mut bytes = vec![0; length];
        self.source.read_exact_at(&mut bytes, offset).map_err(ReadError::Read)?;
        Ok(bytes)
    }

    /// Reads the inode `nid`.
    ///
    /// # Errors
    /// If there is no sound inode.
    pub fn inode(&self, nid: u64) -> Result<InodeInfo, ReadError> {
        let offset = nid
            .checked_mul(SLOT_SIZE)
            .and_then(|offset| offset.checked_add(self.meta_start))
            .ok_or(ReadError::Corrupt("a node id lies outside"))?;
        let bytes = self.bytes_at(offset, size_of::<InodeCompact>())?;
        let compact = InodeCompact::read_from_bytes(&bytes)
            .map_err(|_| ReadError::Corrupt("an inode is cut short"))?;
        let format = compact.format.get();
        let kind = FileType::of_mode(compact.mode.get())
            .ok_or(ReadError::Corrupt("an inode is of no known type"))?;
        let xattr_size = body_of_count(compact.xattr_count.get());
        let mut info = InodeInfo {
            nid,
            file_type: kind,
            permissions: compact.mode.get() & 0o7777,
            links: u32::from(compact.links.get()),
            uid: u32::from(compact.uid.get()),
            gid: u32::from(compact.gid.get()),
            mtime: self.epoch,
            size: u64::from(compact.size.get()),
            layout: format >> 1,
            data: compact.data.get(),
            xattr_offset: offset + size_of::<InodeCompact>() as u64,
            xattr_size,
        };
        if format & 1 == 1 {
            let bytes = self.bytes_at(offset, size_of::<InodeExtended>())?;
            let extended = InodeExtended::read_from_bytes(&bytes)
                .map_err(|_| ReadError::Corrupt("an inode is cut short"))?;
            info.links = extended.links.get();
            info.uid = extended.uid.get();
            info.gid = extended.gid.get();
            info.mtime = timestamp(extended.mtime.get(), extended.mtime_nanoseconds.get())?;
            info.size = extended.size.get();
            info.data = extended.data.get();
            info.xattr_offset = offset + size_of::<InodeExtended>() as u64;
        }
        check_layout(&info)?;
        Ok(info)
    }

    /// Lists a directory in name order, without `.` and `..`.
    ///
    /// # Errors
    /// If `directory` is none, or its blocks are unsound.
    pub fn list(&self, directory: &InodeInfo) -> Result<Vec<DirectoryEntry>, ReadError> {
        if directory.file_type != FileType::Directory {
            return Err(ReadError::Corrupt("not a directory"));
        }
        let mut entries: Vec<DirectoryEntry> = Vec::new();
        let mut block = vec![0; BLOCK_LEN];
        let mut offset = 0;
        while offset < directory.size {
            let length = self.read(directory, offset, &mut block)?;
            let parsed = directory::decode_block(&block[..length])
                .ok_or(ReadError::Corrupt("a directory block is unsound"))?;
            for entry in parsed.iter().filter(|entry| !matches!(entry.name, b"." | b"..")) {
                if entries.last().is_some_and(|last| *last.name >= *entry.name) {
                    return Err(ReadError::Corrupt("a directory is not sorted"));
                }
                entries.push(DirectoryEntry { name: entry.name.into(), nid: entry.nid });
            }
            offset += BLOCK;
        }
        Ok(entries)
    }

    /// Reads content from `offset` on into `buffer`; bytes read, less than asked for only at the
    /// end.
    ///
    /// # Errors
    /// If the content lies outside the image and its devices, or cannot be read.
    pub fn read(
        &self,
        inode: &InodeInfo,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, ReadError> {
        let left = inode.size.saturating_sub(offset);
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let mut done = 0;
        while done < wanted {
            let (place, run) = self.locate(inode, offset + done as u64)?;
            let length = usize::try_from(run).map_or(wanted - done, |run| run.min(wanted - done));
            let part = &mut buffer[done..done + length];
            match place {
                None => part.fill(0),
                Some((device, position)) => self.read_device(device, position, part)?,
            }
            done += length;
        }
        Ok(done)
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// If it is larger, or as [`Reader::read`].
    pub fn read_all(&self, inode: &InodeInfo, limit: u64) -> Result<Vec<u8>, ReadError> {
        let too_large = ReadError::FileTooLarge { size: inode.size, limit };
        if inode.size > limit {
            return Err(too_large);
        }
        let mut bytes = vec![0; usize::try_from(inode.size).map_err(|_| too_large)?];
        self.read(inode, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// If `inode` is no symlink, or is unsound.
    pub fn read_link(&self, inode: &InodeInfo) -> Result<Vec<u8>, ReadError> {
        if inode.file_type != FileType::Symlink || !(1..=SYMLINK_MAX).contains(&inode.size) {
            return Err(ReadError::Corrupt("a symlink is unsound"));
        }
        let target = self.read_all(inode, SYMLINK_MAX)?;
        if target.contains(&0) {
            return Err(ReadError::Corrupt("a symlink is unsound"));
        }
        Ok(target)
    }

    /// The extended attributes, in name order.
    ///
    /// # Errors
    /// If they are unsound.
    pub fn xattrs(&self, inode: &InodeInfo) -> Result<Vec<Xattr>, ReadError> {
        if inode.xattr_size == 0 {
            return Ok(Vec::new());
        }
        let corrupt = || ReadError::Corrupt("extended attributes are unsound");
        let body = self.bytes_at(inode.xattr_offset, inode.xattr_size)?;
        let (shared, mut xattrs) = decode_body(&body).ok_or_else(corrupt)?;
        for place in shared {
            let offset = self.xattr_start + u64::from(place) * 4;
            let left = self.size.checked_sub(offset).ok_or_else(corrupt)?;
            let header = self.bytes_at(offset, 4.min(usize::try_from(left).unwrap_or(4)))?;
            let [name, _, low, high] = header[..] else { return Err(corrupt()) };
            let length = 4 + u64::from(name) + u64::from(u16::from_le_bytes([low, high]));
            let length = length.min(left).min(SHARED_XATTR_MAX);
            let bytes = self.bytes_at(offset, usize::try_from(length).map_err(|_| corrupt())?)?;
            xattrs.push(Xattr::decode(&bytes).ok_or_else(corrupt)?.0);
        }
        xattrs.sort();
        if xattrs.windows(2).any(|pair| pair[0].name() == pair[1].name()) {
            return Err(corrupt());
        }
        Ok(xattrs)
    }

    /// Finds `path` from the root on; symlinks are followed inside the image, the last component
    /// only if `follow`. `None` if there is no such file.
    ///
    /// # Errors
    /// If the image is unsound, or there are too many symlinks.
    pub fn lookup(&self, path: &[u8], follow: bool) -> Result<Option<InodeInfo>, ReadError> {
        let mut stack = vec![self.inode(self.root)?];
        let mut left: Vec<Vec<u8>> = components(path);
        let mut symlinks = 0;
        while let Some(name) = left.pop() {
            if name == b".." {
                stack.truncate((stack.len() - 1).max(1));
                continue;
            }
            let directory = stack.last().expect("the root stays");
            if directory.file_type != FileType::Directory {
                return Ok(None);
            }
            let entries = self.list(directory)?;
            let Ok(found) = entries.binary_search_by(|entry| (*entry.name).cmp(&name)) else {
                return Ok(None);
            };
            let inode = self.inode(entries[found].nid)?;
            if inode.file_type == FileType::Symlink && (follow || !left.is_empty()) {
                symlinks += 1;
                if symlinks > SYMLINKS_MAX {
                    return Err(ReadError::SymlinkLoop);
                }
                let target = self.read_link(&inode)?;
                if target.first() == Some(&b'/') {
                    stack.truncate(1);
                }
                left.extend(components(&target));
                continue;
            }
            stack.push(inode);
        }
        Ok(stack.pop())
    }

    /// Where byte `offset` of the content is (device and position; `None` in a hole) and how many
    /// bytes follow it there.
    fn locate(
        &self,
        inode: &InodeInfo,
        offset: u64,
    ) -> Result<(Option<(u16, u64)>, u64), ReadError> {
        let left = inode.size - offset;
        match inode.layout {
            LAYOUT_FLAT_INLINE if offset >= inode.size / BLOCK * BLOCK => {
                Ok((Some((0, inode.tail_offset() + offset % BLOCK)), left))
            }
            LAYOUT_CHUNK_BASED => {
                let (bits, _) = inode.chunks();
                let chunk_size = BLOCK << bits;
                let within = offset % chunk_size;
                let run = left.min(chunk_size - within);
                let extent = self.chunk(inode, offset / chunk_size)?;
                let place =
                    extent.map(|extent| (extent.device, u64::from(extent.block) * BLOCK + within));
                Ok((place, run))
            }
            _ => {
                let end = if inode.layout == LAYOUT_FLAT_INLINE {
                    inode.size / BLOCK * BLOCK
                } else {
                    inode.size
                };
                Ok((Some((0, u64::from(inode.data) * BLOCK + offset)), end - offset))
            }
        }
    }

    /// The chunk at `index`; `None` is a hole.
    pub(super) fn chunk(&self, inode: &InodeInfo, index: u64) -> Result<Option<Extent>, ReadError> {
        let offset = index
            .checked_mul(size_of::<ChunkIndex>() as u64)
            .and_then(|offset| offset.checked_add(inode.tail_offset().next_multiple_of(8)))
            .ok_or(ReadError::Corrupt("a chunk index lies outside"))?;
        let bytes = self.bytes_at(offset, size_of::<ChunkIndex>())?;
        let index = ChunkIndex::read_from_bytes(&bytes)
            .map_err(|_| ReadError::Corrupt("a chunk index is cut short"))?;
        let extent = Extent { device: index.device.get(), block: index.block.get() };
        Ok((extent.block != NULL_ADDRESS).then_some(extent))
    }

    /// Fills `buffer` from `position` of a device.
    fn read_device(&self, device: u16, position: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let outside = ReadError::Corrupt("content lies outside its device");
        let end = position.checked_add(buffer.len() as u64);
        let Some(number) = usize::from(device).checked_sub(1) else {
            if end.is_none_or(|end| end > self.size) {
                return Err(outside);
            }
            return self.source.read_exact_at(buffer, position).map_err(ReadError::Read);
        };
        let Some(slot) = self.slots.get(number) else { return Err(outside) };
        if end.is_none_or(|end| end > u64::from(slot.blocks) * BLOCK) {
            return Err(outside);
        }
        match self.devices.get(number) {
            Some(source) => source.read_exact_at(buffer, position),
            None => {
                let start = u64::from(slot.mapped_block) * BLOCK;
                self.source.read_exact_at(buffer, start + position)
            }
        }
        .map_err(ReadError::Read)
    }
}

/// A path's components, the first one last, without empty ones and dots.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .rev()
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Parses and checks the superblock in block 0.
fn parse_super_block(block: &[u8]) -> Result<SuperBlock, ReadError> {
    let mut checked = block.get(SUPER_OFFSET..BLOCK_LEN).ok_or(ReadError::NotErofs)?.to_vec();
    let (super_block, _) =
        SuperBlock::read_from_prefix(&checked).map_err(|_| ReadError::NotErofs)?;
    if super_block.magic.get() != SUPER_MAGIC {
        return Err(ReadError::NotErofs);
    }
    checked[4..8].fill(0);
    if !crc32c::crc32c(&checked) != super_block.checksum.get() {
        return Err(ReadError::Corrupt("the superblock's checksum is wrong"));
    }
    if super_block.block_bits != BLOCK_BITS || super_block.directory_block_bits != 0 {
        return Err(ReadError::Unsupported("another block size than 4 KiB"));
    }
    let known = INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE;
    if super_block.feature_incompat.get() & !known != 0 {
        return Err(ReadError::Unsupported("compression or another newer feature"));
    }
    Ok(super_block)
}

fn timestamp(seconds: u64, nanoseconds: u32) -> Result<Timestamp, ReadError> {
    if nanoseconds >= 1_000_000_000 {
        return Err(ReadError::Corrupt("a time has too many nanoseconds"));
    }
    Ok(Timestamp { seconds: seconds.cast_signed(), nanoseconds })
}

/// Checks what an inode says of its content.
fn check_layout(inode: &InodeInfo) -> Result<(), ReadError> {
    let tail = inode.size % BLOCK;
    match inode.layout {
        LAYOUT_FLAT_PLAIN => Ok(()),
        LAYOUT_FLAT_INLINE if inode.tail_offset() % BLOCK + tail > BLOCK => {
            Err(ReadError::Corrupt("inline content crosses a block boundary"))
        }
        LAYOUT_FLAT_INLINE => Ok(()),
        LAYOUT_CHUNK_BASED => {
            let known = u32::from(CHUNK_FORMAT_INDEXES | CHUNK_FORMAT_BITS_MASK);
            if inode.data & u32::from(CHUNK_FORMAT_INDEXES) == 0 || inode.data & !known != 0 {
                return Err(ReadError::Unsupported("another form of chunk index"));
            }
            Ok(())
        }
        _ => Err(ReadError::Unsupported("compression")),
    }
}
