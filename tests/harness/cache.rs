//! Things that are slow to make and the same each time, made once and kept outside the checkout.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::Result;

/// `$HUSK_CACHE`, or `husk` in `$XDG_CACHE_HOME` or `~/.cache`: as `guest-kernel/build` has it.
///
/// # Errors
/// If neither `HUSK_CACHE` nor `HOME` is set.
pub fn folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("HUSK_CACHE") {
        return Ok(folder.into());
    }
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(Path::new(&folder).join("husk"));
    }
    let home = std::env::var_os("HOME").ok_or_else(|| anyhow!("set HOME or HUSK_CACHE"))?;
    Ok(Path::new(&home).join(".cache/husk"))
}

/// The folder `fixtures/<name>-<hash of inputs>` in the cache, made by `make` if it is not there.
///
/// Whoever comes while another process makes it waits; a failed attempt leaves nothing that a
/// later one would take for the whole.
///
/// # Errors
/// If the cache cannot be written, or `make` fails.
pub fn made_once(
    name: &str,
    inputs: &[&[u8]],
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update(u64::try_from(input.len())?.to_le_bytes());
        hash.update(input);
    }
    let key = hex::encode(&hash.finalize()[..8]);
    let fixtures = folder()?.join("fixtures");
    fs::create_dir_all(&fixtures).with_context(|| format!("failed to make {fixtures:?}"))?;
    let made = fixtures.join(format!("{name}-{key}"));
    let lock = File::create(fixtures.join(format!("{name}-{key}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if !made.exists() {
        let partial = fixtures.join(format!("{name}-{key}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir(&partial)?;
        make(&partial).with_context(|| format!("failed to make the fixture {name}"))?;
        fs::rename(&partial, &made)?;
    }
    Ok(made)
}
