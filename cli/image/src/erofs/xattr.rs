//! Extended attributes: names, the table that holds each one once, and their bytes on disk.

use std::collections::HashMap;
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::disk::{XattrEntry, XattrHeader};
use super::tree::TreeError;

/// Bytes of all different attributes of one tree: labels are interned, so that only a stream of
/// made-up values comes near this; it would otherwise fill the host's memory.
pub(crate) const XATTR_BYTES_MAX: usize = 64 << 20;
/// Attributes of one inode; Linux lists at most 64 KiB of names.
pub(crate) const XATTRS_PER_INODE_MAX: usize = 128;
/// Bytes of one inode's attributes, names included: the on-disk count ends at 256 KiB.
pub(crate) const XATTR_INODE_BYTES_MAX: usize = 128 << 10;

/// The name spaces that EROFS can express, as (index, prefix). An access control list's name is
/// all prefix.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// One extended attribute.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Xattr {
    index: u8,
    suffix: Box<[u8]>,
    value: Box<[u8]>,
}

impl Xattr {
    /// Makes an attribute from its full name; `None` if Linux has no such name space on a disk
    /// file system, or the name or value is longer than Linux allows.
    #[must_use]
    pub fn new(name: &[u8], value: &[u8]) -> Option<Self> {
        let (index, prefix) = PREFIXES.iter().find(|(index, prefix)| match index {
            2 | 3 => name == *prefix,
            _ => name.starts_with(prefix) && name.len() > prefix.len(),
        })?;
        let suffix = name.get(prefix.len()..)?;
        if name.len() > 255 || name.contains(&0) || value.len() > usize::from(u16::MAX) {
            return None;
        }
        Some(Self { index: *index, suffix: suffix.into(), value: value.into() })
    }

    /// The full name.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        let prefix = PREFIXES
            .iter()
            .find(|(index, _)| *index == self.index)
            .map_or(b"".as_slice(), |(_, prefix)| prefix);
        [prefix, &self.suffix].concat()
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Bytes of the entry on disk, a multiple of four.
    pub(super) fn disk_size(&self) -> usize {
        (size_of::<XattrEntry>() + self.suffix.len() + self.value.len()).next_multiple_of(4)
    }

    /// Appends the entry as it lies on disk.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let entry = XattrEntry {
            name_length: u8::try_from(self.suffix.len()).expect("names are at most 255 bytes"),
            name_index: self.index,
            value_size: u16::try_from(self.value.len()).expect("values fit 16 bits").into(),
        };
        out.extend_from_slice(entry.as_bytes());
        out.extend_from_slice(&self.suffix);
        out.extend_from_slice(&self.value);
        out.resize(out.len().next_multiple_of(4), 0);
    }

    /// Decodes the entry at the start of `bytes`; the attribute and its size on disk.
    ///
    /// `None` if the bytes are cut short or the name space is not one of ours.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let (entry, rest) = XattrEntry::read_from_prefix(bytes).ok()?;
        let suffix = rest.get(..usize::from(entry.name_length))?;
        let value =
            rest.get(suffix.len()..suffix.len().checked_add(usize::from(entry.value_size))?)?;
        let (_, prefix) = PREFIXES.iter().find(|(index, _)| *index == entry.name_index)?;
        let xattr = Self::new(&[*prefix, suffix].concat(), value)?;
        let size = xattr.disk_size();
        Some((xattr, size))
    }
}

/// Identifies an attribute in an [`XattrTable`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct XattrId(u32);

impl XattrId {
    /// Position in the table.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Each different attribute of a tree, once, in the order of first use.
#[derive(Debug, Default)]
pub struct XattrTable {
    entries: Vec<Arc<Xattr>>,
    ids: HashMap<Arc<Xattr>, XattrId>,
    bytes: usize,
}

impl XattrTable {
    /// Adds `xattr`, or finds the one equal to it.
    ///
    /// # Errors
    /// If the table would hold more than `XATTR_BYTES_MAX`.
    pub fn intern(&mut self, xattr: Xattr) -> Result<XattrId, TreeError> {
        if let Some(id) = self.ids.get(&xattr) {
            return Ok(*id);
        }
        self.bytes += xattr.disk_size();
        if self.bytes > XATTR_BYTES_MAX {
            return Err(TreeError::XattrBytes);
        }
        let id = XattrId(u32::try_from(self.entries.len()).map_err(|_| TreeError::XattrBytes)?);
        let xattr = Arc::new(xattr);
        self.entries.push(Arc::clone(&xattr));
        self.ids.insert(xattr, id);
        Ok(id)
    }

    /// The attribute that `id` stands for.
    #[must_use]
    pub fn get(&self, id: XattrId) -> &Xattr {
        &self.entries[id.index()]
    }

    /// Different attributes held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Checks one inode's attributes against [`XATTRS_PER_INODE_MAX`] and
/// [`XATTR_INODE_BYTES_MAX`], and returns the size of their body were none shared.
pub(crate) fn body_size_max(xattrs: &[Xattr]) -> Result<usize, TreeError> {
    let bytes: usize = xattrs.iter().map(Xattr::disk_size).sum();
    if xattrs.len() > XATTRS_PER_INODE_MAX || bytes > XATTR_INODE_BYTES_MAX {
        return Err(TreeError::InodeXattrs);
    }
    Ok(if xattrs.is_empty() { 0 } else { size_of::<XattrHeader>() + bytes })
}

/// Where each attribute that several inodes use lies in the shared area.
pub(super) struct SharedXattrs {
    /// Offset in the shared area divided by four; `None` if stored with its one inode.
    places: Vec<Option<u32>>,
    /// The shared area.
    pub(super) bytes: Vec<u8>,
}

impl SharedXattrs {
    /// Lays out the attributes that `uses` (by id) counts more than once.
    pub(super) fn new(table: &XattrTable, uses: &[u32]) -> Self {
        let mut bytes = Vec::new();
        let places = (table.entries.iter().zip(uses))
            .map(|(xattr, uses)| {
                (*uses > 1).then(|| {
                    let place = u32::try_from(bytes.len() / 4).expect("the table is bounded");
                    xattr.encode(&mut bytes);
                    place
                })
            })
            .collect();
        Self { places, bytes }
    }

    /// Bytes of the body of an inode with these attributes; 0 without any.
    pub(super) fn body_size(&self, table: &XattrTable, ids: &[XattrId]) -> usize {
        if ids.is_empty() {
            return 0;
        }
        let entries = ids.iter().map(|id| match self.places[id.index()] {
            Some(_) => 4,
            None => table.get(*id).disk_size(),
        });
        size_of::<XattrHeader>() + entries.sum::<usize>()
    }

    /// Appends the body of an inode with these attributes.
    pub(super) fn encode_body(&self, table: &XattrTable, ids: &[XattrId], out: &mut Vec<u8>) {
        if ids.is_empty() {
            return;
        }
        let shared: Vec<u32> = ids.iter().filter_map(|id| self.places[id.index()]).collect();
        let header = XattrHeader {
            name_filter: 0.into(),
            shared_count: u8::try_from(shared.len()).expect("at most 128 attributes an inode"),
            reserved: [0; 7],
        };
        out.extend_from_slice(header.as_bytes());
        for place in shared {
            out.extend_from_slice(&place.to_le_bytes());
        }
        for id in ids.iter().filter(|id| self.places[id.index()].is_none()) {
            table.get(*id).encode(out);
        }
    }
}

/// The on-disk count of an inode whose attribute body is `size` bytes.
pub(super) fn count_of_body(size: usize) -> u16 {
    if size == 0 {
        return 0;
    }
    u16::try_from((size - size_of::<XattrHeader>()) / 4 + 1)
        .expect("an inode's attributes are bounded")
}

/// Bytes of the body of an inode whose on-disk count is `count`.
pub(super) fn body_of_count(count: u16) -> usize {
    if count == 0 { 0 } else { size_of::<XattrHeader>() + (usize::from(count) - 1) * 4 }
}

/// What an inode's attribute body holds: places in the shared area, and entries of its own.
pub(super) fn decode_body(bytes: &[u8]) -> Option<(Vec<u32>, Vec<Xattr>)> {
    let (header, mut rest) = XattrHeader::ref_from_prefix(bytes).ok()?;
    let mut shared = Vec::new();
    for _ in 0..header.shared_count {
        let (place, after) = rest.split_first_chunk::<4>()?;
        shared.push(u32::from_le_bytes(*place));
        rest = after;
    }
    let mut own = Vec::new();
    while !rest.is_empty() {
        let (xattr, size) = Xattr::decode(rest)?;
        own.push(xattr);
        rest = rest.get(size..)?;
    }
    (shared.len() + own.len() <= XATTRS_PER_INODE_MAX).then_some((shared, own))
}
