//! Iterates over the entries of a tar stream.

use std::io::Read;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::header::{self, Fields, until_nul};
use super::input::{Input, InputError, TAR_BLOCK};
use super::number::parse_field;
use super::pax::{self, Pax};
use super::sparse::{self, Segment, SparseMapError};
use crate::erofs::Timestamp;
use crate::layer::error::{LayerError, printable};
use crate::layer::limits::EXTENSION_LEN_MAX;

/// How a stream is malformed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TarError {
    /// It ends inside an entry.
    #[error("the stream ends too early")]
    Truncated,
    /// A header's sum is wrong: this is no header.
    #[error("a header's checksum is wrong")]
    Checksum,
    /// A number is malformed or out of range.
    #[error("the {0} of an entry is malformed or out of range")]
    Number(&'static str),
    /// A PAX record is malformed.
    #[error("a PAX record is malformed")]
    PaxRecord,
    /// A PAX or GNU extension header is too long.
    #[error("an extension header is longer than {EXTENSION_LEN_MAX} bytes")]
    ExtensionTooLong,
    /// Two of a kind for one entry.
    #[error("an entry has two extension headers of one kind")]
    ExtensionTwice,
    /// The map of a sparse file makes no sense.
    #[error("a sparse file is malformed: {0}")]
    Sparse(&'static str),
    /// A type of entry that layers do not have.
    #[error("{path} has the unsupported entry type {kind:?}")]
    UnknownType {
        /// The entry's path, made printable.
        path: String,
        /// The type's character.
        kind: char,
    },
    /// Something follows the end of the archive.
    #[error("there is more after the end of the archive")]
    TrailingData,
}

/// What an entry makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EntryKind {
    Directory,
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry with its extensions applied.
#[derive(Clone, Debug)]
pub(crate) struct TarEntry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Target of a hard link or symlink.
    pub(crate) link: Vec<u8>,
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// Where the stored bytes belong, if not one behind the other from the start.
    pub(crate) sparse: Option<Vec<Segment>>,
    pub(crate) permissions: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) device: (i64, i64),
}

/// Extensions that stand before the entry they belong to.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// A tar stream.
pub(crate) struct Archive<R> {
    input: Input<R>,
    /// Bytes of the present entry's content not taken yet.
    content: u64,
    /// Bytes between its end and the next header.
    padding: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { input: Input::new(stream), content: 0, padding: 0 }
    }

    /// The next entry; `None` at the end of the archive, after which the stream was read to its
    /// own end. What was not taken of the entry before is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<TarEntry>, LayerError> {
        let mut extensions = Extensions::default();
        loop {
            let rest = self.content + self.padding;
            self.input.skip(rest).map_err(|error| self.input_error(error))?;
            (self.content, self.padding) = (0, 0);
            let Some(block) = self.next_header()? else {
                let orphaned = extensions.pax.is_some()
                    || extensions.long_path.is_some()
                    || extensions.long_link.is_some();
                return if orphaned { Err(self.malformed(TarError::Truncated)) } else { Ok(None) };
            };
            let fields = header::parse(&block).map_err(|error| self.malformed(error))?;
            if !self.take_extension(&fields, &mut extensions)? {
                return self.entry(&block, &fields, extensions).map(Some);
            }
        }
    }

    /// Takes up to `max` bytes of the present entry's content, at least one of what is left.
    pub(crate) fn content(&mut self, max: u64) -> Result<&[u8], LayerError> {
        let max = max.min(self.content);
        let offset = self.input.offset();
        match self.input.take(max) {
            Ok([]) => Err(LayerError::Tar { offset, source: TarError::Truncated }),
            Ok(bytes) => {
                self.content -= bytes.len() as u64;
                Ok(bytes)
            }
            Err(error) => Err(to_layer_error(offset, error)),
        }
    }

    /// The next block that is a header; `None` at the end of the archive.
    fn next_header(&mut self) -> Result<Option<[u8; TAR_BLOCK]>, LayerError> {
        let zeros = [0; TAR_BLOCK];
        let Some(block) = self.block()? else { return Ok(None) };
        if block != zeros {
            return Ok(Some(block));
        }
        // The end is two blocks of zeros, and writers fill up their last record with more.
        loop {
            let offset = self.input.offset();
            let rest = self.input.take(u64::MAX).map_err(|error| to_layer_error(offset, error))?;
            if rest.is_empty() {
                return Ok(None);
            }
            if rest.iter().any(|byte| *byte != 0) {
                return Err(self.malformed(TarError::TrailingData));
            }
        }
    }

    /// Takes in a header that only says something of the next entry; false if it is an entry.
    fn take_extension(
        &mut self,
        fields: &Fields,
        extensions: &mut Extensions,
    ) -> Result<bool, LayerError> {
        let taken = match fields.kind {
            EntryType::XGlobalHeader => {
                self.set_content(fields.size)?;
                return Ok(true);
            }
            EntryType::XHeader => {
                let bytes = self.extension(fields.size)?;
                let pax = pax::parse(&bytes).map_err(|error| self.malformed(error))?;
                extensions.pax.replace(pax).is_some()
            }
            EntryType::GNULongName => {
                let bytes = self.extension(fields.size)?;
                extensions.long_path.replace(until_nul(&bytes).to_vec()).is_some()
            }
            EntryType::GNULongLink => {
                let bytes = self.extension(fields.size)?;
                extensions.long_link.replace(until_nul(&bytes).to_vec()).is_some()
            }
            _ => return Ok(false),
        };
        if taken { Err(self.malformed(TarError::ExtensionTwice)) } else { Ok(true) }
    }

    /// Reads an extension's content.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > EXTENSION_LEN_MAX {
            return Err(self.malformed(TarError::ExtensionTooLong));
        }
        let length = usize::try_from(size).expect("bounded above");
        let bytes = self.input.read(length).map_err(|error| self.input_error(error))?;
        self.padding = size.next_multiple_of(TAR_BLOCK as u64) - size;
        Ok(bytes)
    }

    /// Applies the extensions to a header.
    fn entry(
        &mut self,
        block: &[u8; TAR_BLOCK],
        fields: &Fields,
        extensions: Extensions,
    ) -> Result<TarEntry, LayerError> {
        let mut pax = extensions.pax.unwrap_or_default();
        let path = extensions.long_path.or(pax.path.take()).unwrap_or(fields.path.clone());
        let kind = entry_kind(fields, &path).ok_or_else(|| {
            let kind = char::from(fields.kind_byte);
            self.malformed(TarError::UnknownType { path: printable(&path), kind })
        })?;
        let mut entry = TarEntry {
            path,
            kind,
            link: extensions.long_link.or(pax.link.take()).unwrap_or(fields.link.clone()),
            size: 0,
            sparse: None,
            permissions: u16::try_from(fields.mode & 0o7777).expect("twelve bits"),
            uid: self.owner("uid", pax.uid, fields.uid)?,
            gid: self.owner("gid", pax.gid, fields.gid)?,
            mtime: pax.mtime.unwrap_or(Timestamp { seconds: fields.mtime, nanoseconds: 0 }),
            xattrs: std::mem::take(&mut pax.xattrs),
            device: fields.device,
        };
        // Whatever their size field says, no other kind of entry has content in the stream.
        if kind == EntryKind::File {
            entry.size = pax.size.unwrap_or(fields.size);
            self.set_content(entry.size)?;
            self.make_sparse(block, fields, pax, &mut entry)?;
        }
        Ok(entry)
    }

    /// Reads the map of a sparse file, if it is one.
    fn make_sparse(
        &mut self,
        block: &[u8; TAR_BLOCK],
        fields: &Fields,
        pax: Pax,
        entry: &mut TarEntry,
    ) -> Result<(), LayerError> {
        let segments = if fields.kind == EntryType::GNUSparse {
            let (real_size, segments) = self.read_gnu_map(block)?;
            entry.size = real_size;
            segments
        } else if pax.sparse.is_sparse() {
            let no_size = TarError::Sparse("its size is missing");
            entry.size = pax.sparse.real_size.ok_or_else(|| self.malformed(no_size))?;
            entry.path = pax.sparse.name.clone().unwrap_or(std::mem::take(&mut entry.path));
            if pax.sparse.map_precedes_data() {
                self.read_map_before_data()?
            } else {
                pax.sparse.segments.unwrap_or_default()
            }
        } else {
            return Ok(());
        };
        sparse::check(&segments, entry.size, self.content)
            .map_err(|error| self.malformed(error))?;
        entry.sparse = Some(segments);
        Ok(())
    }

    /// The map and size that an old GNU header and its extension blocks state.
    fn read_gnu_map(&mut self, block: &[u8; TAR_BLOCK]) -> Result<(u64, Vec<Segment>), LayerError> {
        let not_gnu = TarError::Sparse("its header is not GNU's");
        let gnu = Header::from_byte_slice(block).as_gnu();
        let gnu = gnu.ok_or_else(|| self.malformed(not_gnu))?;
        let real_size = parse_field(&gnu.realsize)
            .and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| self.malformed(TarError::Number("size")))?;
        let mut segments = Vec::new();
        sparse::push_gnu(&gnu.sparse, &mut segments).map_err(|error| self.malformed(error))?;
        let mut more = gnu.is_extended();
        while more {
            let block = self.block()?.ok_or_else(|| self.malformed(TarError::Truncated))?;
            let mut extension = GnuExtSparseHeader::new();
            extension.as_mut_bytes().copy_from_slice(&block);
            let before = segments.len();
            sparse::push_gnu(extension.sparse(), &mut segments)
                .map_err(|error| self.malformed(error))?;
            more = extension.is_extended();
            if more && segments.len() == before {
                return Err(self.malformed(TarError::Sparse("an extension block is empty")));
            }
        }
        Ok((real_size, segments))
    }

    /// The map that stands at the start of the content.
    fn read_map_before_data(&mut self) -> Result<Vec<Segment>, LayerError> {
        let input = &mut self.input;
        let mut left = self.content;
        let result = sparse::read_map(|| {
            left = left.checked_sub(TAR_BLOCK as u64).ok_or(InputError::Truncated)?;
            input.block()?.ok_or(InputError::Truncated)
        });
        match result {
            Ok(segments) => {
                self.content = left;
                Ok(segments)
            }
            Err(SparseMapError::Input(error)) => Err(self.input_error(error)),
            Err(SparseMapError::Tar(error)) => Err(self.malformed(error)),
        }
    }

    /// Says how much content follows.
    fn set_content(&mut self, size: u64) -> Result<(), LayerError> {
        let padded = size
            .checked_next_multiple_of(TAR_BLOCK as u64)
            .ok_or_else(|| self.malformed(TarError::Number("size")))?;
        (self.content, self.padding) = (size, padded - size);
        Ok(())
    }

    /// An owner's number; the highest is "no change" to Linux.
    fn owner(&self, name: &'static str, pax: Option<u64>, field: i64) -> Result<u32, LayerError> {
        pax.or_else(|| u64::try_from(field).ok())
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number != u32::MAX)
            .ok_or_else(|| self.malformed(TarError::Number(name)))
    }

    fn block(&mut self) -> Result<Option<[u8; TAR_BLOCK]>, LayerError> {
        self.input.block().map_err(|error| self.input_error(error))
    }

    fn malformed(&self, source: TarError) -> LayerError {
        LayerError::Tar { offset: self.input.offset(), source }
    }

    fn input_error(&self, error: InputError) -> LayerError {
        to_layer_error(self.input.offset(), error)
    }
}

fn to_layer_error(offset: u64, error: InputError) -> LayerError {
    match error {
        InputError::Read(source) => LayerError::Read(source),
        InputError::Truncated => LayerError::Tar { offset, source: TarError::Truncated },
    }
}

/// What an entry makes; a file whose type was left out and whose path ends in `/` is a directory.
fn entry_kind(fields: &Fields, path: &[u8]) -> Option<EntryKind> {
    Some(match fields.kind {
        EntryType::Regular if fields.kind_byte == 0 && path.ends_with(b"/") => EntryKind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryKind::File,
        EntryType::Directory => EntryKind::Directory,
        EntryType::Link => EntryKind::HardLink,
        EntryType::Symlink => EntryKind::Symlink,
        EntryType::Char => EntryKind::CharDevice,
        EntryType::Block => EntryKind::BlockDevice,
        EntryType::Fifo => EntryKind::Fifo,
        _ => return None,
    })
}
