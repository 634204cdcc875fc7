//! What a layer may hold: each limit stops an attack that a few kilobytes of compressed tar
//! could otherwise mount. The tree has limits of its own (`erofs::INODES_MAX` and its
//! neighbours), and the ratio of compression is the decompressor's business.

/// Tar entries in one layer. Ten million empty entries compress to a few megabytes.
pub(crate) const ENTRIES_MAX: u64 = 4_000_000;
/// Bytes of one path: `PATH_MAX`; nothing could open a longer one.
pub(crate) const PATH_LEN_MAX: usize = 4096;
/// Components of one path, so that no entry makes more directories than this.
pub(crate) const PATH_DEPTH_MAX: usize = 1024;
/// Bytes of one component, on every Linux file system.
pub(crate) const NAME_LEN_MAX: usize = 255;
/// Bytes of a symlink's target, on every Linux file system.
pub(crate) const SYMLINK_LEN_MAX: usize = 4095;
/// Bytes of one PAX or GNU extension header, which is read into memory whole.
pub(crate) const EXTENSION_LEN_MAX: u64 = 1 << 20;
/// Bytes of one file. A sparse file of a pebibyte takes no space in a tar stream, but its holes
/// take up block addresses. This is also the largest chunk that an index can express.
pub(crate) const FILE_LEN_MAX: u64 = 1 << 43;
/// Data segments of one sparse file, kept in memory while it is read.
pub(crate) const SPARSE_SEGMENTS_MAX: usize = 1 << 16;
/// Chunk indexes of a sparse file per data segment, and as a minimum: the metadata that an entry
/// causes stays in proportion to what it costs in the tar stream.
pub(crate) const CHUNKS_PER_SEGMENT: u64 = 4;
/// See [`CHUNKS_PER_SEGMENT`].
pub(crate) const CHUNKS_MIN: u64 = 1024;
/// Largest content stored next to its inode: half a block, beyond which a block of its own
/// wastes less and, in the layer image, is shared by every image on that layer.
pub(crate) const INLINE_LEN_MAX: u64 = 2048;
/// Inline content of one layer, kept in memory until the metadata are written; further small
/// files get blocks.
pub(crate) const INLINE_TOTAL_MAX: usize = 128 << 20;
/// Layers of one image; Docker itself ends at 128.
pub(crate) const LAYERS_MAX: usize = 500;
