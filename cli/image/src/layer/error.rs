//! What can go wrong with a layer.

use std::io;

use super::limits::{
    ENTRIES_MAX, FILE_LEN_MAX, LAYERS_MAX, NAME_LEN_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX,
    SYMLINK_LEN_MAX,
};
use super::tar::TarError;
use crate::erofs::{ImportError, TreeError, WriteError};

/// Why a layer could not be converted or merged.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stream itself failed.
    #[error("failed to read the layer's tar stream")]
    Read(#[source] io::Error),
    /// The stream is not a sound tar stream.
    #[error("malformed tar stream near byte {offset}")]
    Tar {
        /// Bytes read so far.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: TarError,
    },
    /// An entry cannot be part of a layer.
    #[error("failed to add {path} to the layer")]
    Entry {
        /// The entry's path, made printable.
        path: String,
        /// Why not.
        #[source]
        source: EntryError,
    },
    /// The stream has too many entries.
    #[error("the layer has more than {ENTRIES_MAX} entries")]
    TooManyEntries,
    /// The image has too many layers.
    #[error("the image has {count} layers, more than {LAYERS_MAX}")]
    TooManyLayers {
        /// As many.
        count: usize,
    },
    /// The image could not be written.
    #[error("failed to write the layer image")]
    Write(#[from] WriteError),
    /// A layer image is not what [`super::convert()`] wrote.
    #[error("failed to read the image of layer {index} (counted from 0)")]
    Import {
        /// Its position, the lowest is 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: ImportError,
    },
    /// A layer does not fit on the layers below.
    #[error("failed to put layer {index} (counted from 0) on those below: {path}")]
    Merge {
        /// Its position, the lowest is 0.
        index: usize,
        /// The path in question, made printable.
        path: String,
        /// Why not.
        #[source]
        source: EntryError,
    },
    /// A program's name is no file name.
    #[error("{0:?} is not a file name")]
    ProgramName(String),
}

/// Why a path cannot be part of a layer.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Longer than Linux can open.
    #[error("the path is longer than {PATH_LEN_MAX} bytes")]
    PathTooLong,
    /// Deeper than we allow.
    #[error("the path has more than {PATH_DEPTH_MAX} components")]
    PathTooDeep,
    /// A component is too long.
    #[error("a name is longer than {NAME_LEN_MAX} bytes")]
    NameTooLong,
    /// A C string ends there.
    #[error("the path or link target holds a NUL byte")]
    NulByte,
    /// No target, or one too long.
    #[error("a symlink's target must have 1 to {SYMLINK_LEN_MAX} bytes")]
    SymlinkTarget,
    /// Something on the way is no directory.
    #[error("its parent is not a directory")]
    ParentNotDirectory,
    /// Symlinks on the way lead in circles.
    #[error("too many symlinks on the way")]
    SymlinkLoop,
    /// The root stays a directory.
    #[error("only a directory can be the root")]
    NotRoot,
    /// `.wh.` alone, `.wh..` or `.wh...`, or a file below a whiteout.
    #[error("the whiteout names no file")]
    Whiteout,
    /// Directories have one name.
    #[error("a hard link to a directory")]
    LinkToDirectory,
    /// Neither this layer nor those below have the target.
    #[error("the target of the hard link, {0}, is in no layer")]
    LinkTarget(String),
    /// Beyond what block addresses reach.
    #[error("the file is larger than {FILE_LEN_MAX} bytes")]
    FileTooLarge,
    /// Beyond Linux's numbers.
    #[error("the device number is out of range")]
    DeviceNumber,
    /// The image would be too large for its addresses.
    #[error("the layer image would be over 16 TiB")]
    ImageTooLarge,
    /// The layer as a whole holds too much.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Makes a path fit for a one-line message.
pub(super) fn printable(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}
