//! System images: what a guest's kernel mounts first.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Content;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::layer;
use crate::limits::PROGRAM_BYTES_MAX;

/// Changes whenever [`layer::system_image`] would write something else for the same program.
const LAYOUT: u32 = 1;

pub(super) fn system_image(
    content: &Content,
    name: &str,
    program: &Path,
) -> Result<PathBuf, ImageError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
        return Err(ImageError::Internal(format!("\"{name}\" is no name for a system image")));
    }
    let mut bytes = Vec::new();
    File::open(program)
        .and_then(|file| file.take(PROGRAM_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| content.failed("reading", program, error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > PROGRAM_BYTES_MAX) {
        let problem = format!("over the limit of {PROGRAM_BYTES_MAX} bytes");
        return Err(ImageError::too_large(program.display().to_string(), problem));
    }
    let mut hasher = Sha256::new();
    hasher.update(LAYOUT.to_le_bytes());
    hasher.update(&bytes);
    let path = content.system_path(name, Digest::from(hasher));
    if path.exists() {
        return Ok(path);
    }
    let file = content.create()?;
    layer::system_image(name, &bytes, file.as_file())
        .map_err(|error| crate::pull::layer_failure(content, "writing the system image", &error))?;
    content.commit(file, &path)?;
    Ok(path)
}
