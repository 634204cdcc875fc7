//! Where file content goes while the stream runs: small files to memory, all else to the image.

use std::io::{self, Read};

use super::convert::Problem;
use super::error::{EntryError, LayerError};
use super::limits::{CHUNKS_MIN, CHUNKS_PER_SEGMENT, INLINE_LEN_MAX, INLINE_TOTAL_MAX};
use super::tar::{Archive, Segment, TarEntry};
use crate::erofs::{Appender, BLOCK_SIZE, Content, Extent, InlineStore, Source, WriteError};

/// Bytes of the larger form of an inode, which inline content must leave room for.
const INODE_LEN_MAX: usize = 64;
/// [`BLOCK_SIZE`] for arithmetic on offsets.
const BLOCK: u64 = BLOCK_SIZE as u64;

/// Content of small files, kept until their inodes are written.
#[derive(Debug, Default)]
pub(super) struct Arena(Vec<u8>);

impl From<Vec<u8>> for Arena {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl InlineStore for Arena {
    fn read(&self, _store: u16, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.as_slice().read_exact_at(buffer, offset)
    }
}

/// Takes file content in.
pub(super) struct FileSink<'a> {
    output: Appender<'a>,
    arena: Arena,
}

impl<'a> FileSink<'a> {
    /// Starts behind the superblock's block.
    pub(super) fn new(mut output: Appender<'a>) -> Result<Self, LayerError> {
        output.skip_to(BLOCK).map_err(write_error)?;
        Ok(Self { output, arena: Arena::default() })
    }

    pub(super) fn into_parts(self) -> (Appender<'a>, Arena) {
        (self.output, self.arena)
    }

    /// Takes a file's content from the archive; its attributes take `xattr_size` bytes at most.
    pub(super) fn store<R: Read>(
        &mut self,
        entry: &TarEntry,
        archive: &mut Archive<R>,
        xattr_size: usize,
    ) -> Result<Content, Problem> {
        let small = usize::try_from(entry.size.min(INLINE_LEN_MAX + 1)).expect("a small number");
        let inline = entry.size <= INLINE_LEN_MAX
            && INODE_LEN_MAX + xattr_size + small <= BLOCK_SIZE as usize
            && self.arena.0.len() + small <= INLINE_TOTAL_MAX;
        if inline {
            return Ok(self.store_inline(entry, archive, small)?);
        }
        match &entry.sparse {
            None => self.store_blocks(entry.size, archive),
            Some(segments) => self.store_sparse(entry.size, segments, archive),
        }
    }

    fn store_inline<R: Read>(
        &mut self,
        entry: &TarEntry,
        archive: &mut Archive<R>,
        size: usize,
    ) -> Result<Content, LayerError> {
        let start = self.arena.0.len();
        self.arena.0.resize(start + size, 0);
        let whole = [Segment { offset: 0, length: entry.size }];
        for segment in entry.sparse.as_deref().unwrap_or(&whole) {
            let from = start + usize::try_from(segment.offset).expect("within a small file");
            let to = from + usize::try_from(segment.length).expect("within a small file");
            let mut part = &mut self.arena.0[from..to];
            while !part.is_empty() {
                let bytes = archive.content(part.len() as u64)?;
                let (filled, rest) = part.split_at_mut(bytes.len());
                filled.copy_from_slice(bytes);
                part = rest;
            }
        }
        Ok(Content::Inline { store: 0, offset: start as u64 })
    }

    fn store_blocks<R: Read>(
        &mut self,
        size: u64,
        archive: &mut Archive<R>,
    ) -> Result<Content, Problem> {
        let extent = self.start_run(size)?;
        self.copy(size, archive)?;
        self.output.skip_to_block().map_err(write_error)?;
        Ok(Content::Contiguous(extent))
    }

    /// Stores the chunks that data fall into; all others are holes.
    fn store_sparse<R: Read>(
        &mut self,
        size: u64,
        segments: &[Segment],
        archive: &mut Archive<R>,
    ) -> Result<Content, Problem> {
        let bits = chunk_bits(size, segments.len());
        let chunk_size = BLOCK << bits;
        let count = size.div_ceil(chunk_size);
        let mut chunks = vec![None; usize::try_from(count).expect("chunk_bits bounds it")];
        // The chunk being written, and the byte offset of its start in the image.
        let mut open: Option<(u64, u64)> = None;
        for segment in segments {
            let mut offset = segment.offset;
            let end = segment.offset + segment.length;
            while offset < end {
                let chunk = offset / chunk_size;
                let start = match open {
                    Some((number, start)) if number == chunk => start,
                    _ => {
                        self.close_chunk(open, chunk_size, size)?;
                        let length = (size - chunk * chunk_size).min(chunk_size);
                        let extent = self.start_run(length)?;
                        chunks[usize::try_from(chunk).expect("below the count")] = Some(extent);
                        let start = self.output.position();
                        open = Some((chunk, start));
                        start
                    }
                };
                let within = offset % chunk_size;
                let length = (end - offset).min(chunk_size - within);
                self.output.skip_to(start + within).map_err(write_error)?;
                self.copy(length, archive)?;
                offset += length;
            }
        }
        self.close_chunk(open, chunk_size, size)?;
        Ok(Content::Chunked { bits, chunks: chunks.into() })
    }

    /// Leaves the rest of a chunk as zeros.
    fn close_chunk(
        &mut self,
        open: Option<(u64, u64)>,
        chunk_size: u64,
        size: u64,
    ) -> Result<(), LayerError> {
        let Some((chunk, start)) = open else { return Ok(()) };
        let length = (size - chunk * chunk_size).min(chunk_size);
        self.output.skip_to((start + length).next_multiple_of(BLOCK)).map_err(write_error)
    }

    /// The run of blocks that starts at the output's position, if it has an address.
    fn start_run(&self, length: u64) -> Result<Extent, Problem> {
        let end = self.output.position().saturating_add(length).div_ceil(BLOCK);
        if u32::try_from(end).is_err() {
            return Err(EntryError::ImageTooLarge.into());
        }
        let block = u32::try_from(self.output.position() / BLOCK).expect("it is before the end");
        Ok(Extent { device: 0, block })
    }

    fn copy<R: Read>(
        &mut self,
        mut length: u64,
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        while length > 0 {
            let bytes = archive.content(length)?;
            length -= bytes.len() as u64;
            self.output.write(bytes).map_err(write_error)?;
        }
        Ok(())
    }
}

fn write_error(source: io::Error) -> LayerError {
    LayerError::Write(WriteError::Write(source))
}

/// log2(blocks) of the smallest chunks that keep the number of indexes in proportion to the
/// number of segments.
fn chunk_bits(size: u64, segments: usize) -> u8 {
    let indexes = CHUNKS_MIN.max(segments as u64 * CHUNKS_PER_SEGMENT);
    let bits = size.div_ceil(BLOCK).div_ceil(indexes).next_power_of_two().trailing_zeros();
    u8::try_from(bits).expect("at most 64 bits")
}
