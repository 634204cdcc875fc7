//! `tree-manifest FOLDER`: a line for every path below a folder, with all that can be asked of it.
//!
//! Runs on the host over the tree that an image was made from and in the guest over a container's
//! root; equal lines mean an equal tree. Other file systems and what containers always mount or
//! bind are left out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// What a container's root holds that its image does not determine.
const SKIPPED: &[&str] =
    &["dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys", "tree-manifest"];

fn main() -> Result<()> {
    let root = std::env::args_os().nth(1).context("usage: tree-manifest FOLDER")?;
    let root = PathBuf::from(root);
    let mut walk = Walk {
        root: root.clone(),
        out: BufWriter::new(io::stdout().lock()),
        links: HashMap::new(),
    };
    walk.folder(&root)?;
    Ok(walk.out.flush()?)
}

struct Walk<W: Write> {
    root: PathBuf,
    out: W,
    /// The first path of every file with several, by device and inode.
    links: HashMap<(u64, u64), String>,
}

impl<W: Write> Walk<W> {
    fn folder(&mut self, folder: &Path) -> Result<()> {
        let listing = fs::read_dir(folder).with_context(|| format!("failed to list {folder:?}"))?;
        let mut names = Vec::new();
        for entry in listing {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            let path = folder.join(name);
            let relative = path.strip_prefix(&self.root).expect("below the root");
            if SKIPPED.iter().any(|skipped| Path::new(skipped) == relative) {
                continue;
            }
            let metadata = fs::symlink_metadata(&path)?;
            let line = self.line(&path, &escaped(relative.as_os_str()), &metadata)?;
            writeln!(self.out, "{line}")?;
            if metadata.is_dir() {
                self.folder(&path)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, path: &Path, name: &str, metadata: &fs::Metadata) -> Result<String> {
        let kind = metadata.file_type();
        let mut line = format!(
            "{name} mode={:07o} owner={}:{} mtime={}.{:09}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        if !kind.is_dir() {
            // Folders: overlayfs answers 1 for merged ones, and sizes depend on the file system.
            write!(line, " nlink={} size={}", metadata.nlink(), metadata.size())?;
        }
        if !kind.is_dir() && metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            let first = self.links.entry(key).or_insert_with(|| name.to_owned());
            write!(line, " same-as={first}")?;
        }
        if kind.is_char_device() || kind.is_block_device() {
            let device = metadata.rdev();
            write!(line, " rdev={}:{}", rustix::fs::major(device), rustix::fs::minor(device))?;
        }
        if kind.is_symlink() {
            write!(line, " target={}", escaped(fs::read_link(path)?.as_os_str()))?;
        }
        for (key, value) in attributes(path)? {
            write!(line, " {key}={}", hex::encode(value))?;
        }
        if kind.is_file() {
            write!(line, " sha256={}", content(path)?)?;
        }
        Ok(line)
    }
}

fn content(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("failed to open {path:?}"))?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut chunk).with_context(|| format!("failed to read {path:?}"))?;
        if length == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&chunk[..length]);
    }
}

/// Extended attributes, sorted; overlayfs's own are not part of the tree.
fn attributes(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice())
        .with_context(|| format!("failed to list the attributes of {path:?}"))?;
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        let text = escaped(name);
        if !text.starts_with("trusted.overlay.") {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())
                .with_context(|| format!("failed to read {name:?} of {path:?}"))?;
            value.truncate(length);
            found.push((text, value));
        }
    }
    found.sort();
    Ok(found)
}

/// One word of printable characters for any bytes.
fn escaped(text: &OsStr) -> String {
    text.as_bytes().iter().fold(String::new(), |mut line, &byte| {
        match byte {
            b'!'..=b'~' if byte != b'\\' => line.push(char::from(byte)),
            _ => write!(line, "\\x{byte:02x}").expect("a string takes all"),
        }
        line
    })
}
