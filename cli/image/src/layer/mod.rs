//! A layer's tar stream becomes an EROFS image; an image's layers are merged into one more.
//!
//! DESIGN.md beside this crate's manifest shows what the images look like and why.

#![forbid(unsafe_code)]

mod convert;
mod error;
mod limits;
mod merge;
mod path;
mod store;
mod system;
mod tar;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};

use self::convert::Converter;
pub use self::error::{EntryError, LayerError};
use self::limits::LAYERS_MAX;
pub use self::tar::TarError;
use crate::erofs::{
    Appender, BLOCK_SIZE, DeviceSlot, ImportError, InlineStore, ReadError, Reader, Source, Tree,
    Window, WriteError, import, write_image,
};

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

/// Converts an uncompressed tar stream to an EROFS image in `output`, in one pass.
///
/// The stream is read to its end. `output` is emptied first and written at offsets, whatever its
/// position; it is not synced. After an error it holds no valid image.
///
/// # Errors
/// If the stream is not a tar stream, is over a limit, or `output` cannot be written.
pub fn convert(tar: impl Read, output: &File) -> Result<LayerSummary, LayerError> {
    let mut converter = Converter::new(Appender::new(output).map_err(write_error)?)?;
    converter.read(tar)?;
    converter.finish()
}

/// Merges layers, lowest first, into a metadata image in `output` that refers to their data as if
/// `output` and the layers stood one behind the other on one device.
///
/// Returns the bytes of the metadata image, a multiple of 4096.
///
/// # Errors
/// If a layer is not an image that [`convert()`] wrote, or `output` cannot be written.
pub fn merge(layers: &[File], output: &File) -> Result<u64, LayerError> {
    if layers.len() > LAYERS_MAX {
        return Err(LayerError::TooManyLayers { count: layers.len() });
    }
    let mut tree = Tree::default();
    let mut devices = Vec::new();
    let mut sources = Vec::new();
    for (index, file) in layers.iter().enumerate() {
        let failed = |source: ImportError| LayerError::Import { index, source };
        let number = u16::try_from(index + 1).expect("at most 500 layers");
        let window = Window::new(file).map_err(|error| failed(ReadError::Read(error).into()))?;
        let (layer, blocks) = read_layer(&window, number).map_err(failed)?;
        merge::merge_layer(&mut tree, layer).map_err(|error| LayerError::Merge {
            index,
            path: error.path,
            source: error.source,
        })?;
        devices.push(DeviceSlot { blocks });
        sources.push(window);
    }
    let output = Appender::new(output).map_err(write_error)?;
    Ok(write_image(&tree, &Layers(sources), output, &devices)?)
}

/// Writes an EROFS image that holds one program as `/sbin/<name>` (mode 0755) and the empty
/// directories a guest's root needs.
///
/// # Errors
/// If `name` is no file name, or `output` cannot be written.
pub fn system_image(name: &str, program: &[u8], output: &File) -> Result<(), LayerError> {
    system::write(name, program, output)
}

/// Reads a layer image, all of `source`, as device `number`; its tree and its size in blocks.
fn read_layer(source: impl Source, number: u16) -> Result<(Tree, u32), ImportError> {
    let size = source.size().map_err(ReadError::Read)?;
    let reader = Reader::open(source)?;
    if size != reader.size() {
        // Whatever comes next on the device would not be where the device table says.
        return Err(ReadError::Corrupt("it is longer than its superblock says").into());
    }
    let blocks = u32::try_from(size / u64::from(BLOCK_SIZE))
        .map_err(|_| ReadError::Corrupt("it is over 16 TiB"))?;
    Ok((import(&reader, number)?, blocks))
}

/// The layers' images, as stores of inline content numbered from 1.
struct Layers<S>(Vec<Window<S>>);

impl<S: Source> InlineStore for Layers<S> {
    fn read(&self, store: u16, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let index = usize::from(store).checked_sub(1);
        let layer = index.and_then(|index| self.0.get(index)).ok_or(io::ErrorKind::NotFound)?;
        layer.read_exact_at(buffer, offset)
    }
}

fn write_error(source: io::Error) -> LayerError {
    LayerError::Write(WriteError::Write(source))
}
