//! A layer's tar stream becomes an EROFS image; an image's layers are merged into one more.

use std::fs::File;
use std::io::Read;

/// What is known of a layer once it has been converted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LayerSummary {
    /// Bytes of the EROFS image, a multiple of 4096.
    pub image_bytes: u64,
    /// Sum of the sizes of the regular files in it.
    pub content_bytes: u64,
    /// Entries in the tar stream.
    pub entries: u64,
}

/// Why a layer could not be converted or merged.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {}

/// Converts an uncompressed tar stream to an EROFS image in `output`, in one pass.
///
/// # Errors
/// If the stream is not a tar stream, is over a limit, or `output` cannot be written.
pub fn convert(_tar: impl Read, _output: &File) -> Result<LayerSummary, LayerError> {
    todo!()
}

/// Merges layers, lowest first, into a metadata image in `output` that refers to their data as if
/// `output` and the layers stood one behind the other on one device.
///
/// # Errors
/// If a layer is not an image that [`convert`] wrote, or `output` cannot be written.
pub fn merge(_layers: &[File], _output: &File) -> Result<u64, LayerError> {
    todo!()
}

/// Writes an EROFS image that holds one program as `/sbin/<name>` (mode 0755) and the empty
/// directories a guest's root needs.
///
/// # Errors
/// If `output` cannot be written.
pub fn system_image(_name: &str, _program: &[u8], _output: &File) -> Result<(), LayerError> {
    todo!()
}
