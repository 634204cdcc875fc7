//! Writable disks: sparse copies of one empty ext4 file system, made once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::limits::WRITABLE_DISK_BYTES;

/// Changes with everything that makes the template another one.
const TEMPLATE_VERSION: u32 = 1;

/// Bytes copied at a time.
const COPY_CHUNK: usize = 1 << 20;

/// Why a writable disk could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// The program is missing.
    #[error("failed to run mkfs.ext4: install e2fsprogs")]
    NoMkfs(#[source] io::Error),
    /// The program failed.
    #[error("mkfs.ext4 failed: {0}")]
    Mkfs(String),
    /// A file could not be read or written.
    #[error("failed to {attempt} {}", path.display())]
    Io {
        /// What was being done.
        attempt: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Makes writable disks.
#[derive(Debug)]
pub(crate) struct WritableDisks {
    cache: PathBuf,
    /// Held while the template is being made, so that it is made once.
    making: Mutex<()>,
}

impl WritableDisks {
    pub(crate) fn new(cache: PathBuf) -> Self {
        Self { cache, making: Mutex::new(()) }
    }

    /// Opens the disk at `path`, and makes it first if there is none. Blocks.
    pub(crate) fn open(&self, path: &Path) -> Result<File, DiskError> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map_err(failed("open", path)),
        }
        let template = self.template()?;
        // Half a copy never gets the name: a kill -9 leaves a file that recovery removes with the
        // container's directory, or that is written over here.
        let aside = path.with_extension("new");
        let disk = copy_sparse(&template, &aside)?;
        fs::rename(&aside, path).map_err(failed("rename", &aside))?;
        Ok(disk)
    }

    /// Makes the template if there is none yet; so that the first container does not wait for it.
    pub(crate) fn template(&self) -> Result<PathBuf, DiskError> {
        let gib = WRITABLE_DISK_BYTES >> 30;
        let path = self.cache.join(format!("writable-{gib}g-v{TEMPLATE_VERSION}.ext4"));
        let _making = self.making.lock().expect("nobody panics with it");
        if path.exists() {
            return Ok(path);
        }
        let aside = path.with_extension("new");
        let file = File::create(&aside).map_err(failed("create", &aside))?;
        file.set_len(WRITABLE_DISK_BYTES).map_err(failed("extend", &aside))?;
        make_file_system(&aside)?;
        file.sync_all().map_err(failed("sync", &aside))?;
        fs::rename(&aside, &path).map_err(failed("rename", &aside))?;
        Ok(path)
    }
}

/// An empty ext4 that costs as little as can be until something is in it. `discard` lets mkfs see
/// that the file reads as zeros, so that neither it nor the guest ever writes the inode tables.
fn make_file_system(path: &Path) -> Result<(), DiskError> {
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-m", "0", "-J", "size=16"])
        .args(["-O", "^resize_inode"])
        .args(["-E", "discard,lazy_journal_init=1,root_owner=0:0"])
        .args(["-U", "00000000-0000-4000-8000-000000000001"])
        .arg(path)
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .map_err(DiskError::NoMkfs)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(DiskError::Mkfs(text.lines().last().unwrap_or("no reason given").to_owned()))
}

/// The search path, with the directories of system programs that a user's lacks.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// Copies a sparse file: shares its blocks where the file system can, else copies its data only.
fn copy_sparse(from: &Path, to: &Path) -> Result<File, DiskError> {
    let source = File::open(from).map_err(failed("open", from))?;
    let target = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)
        .map_err(failed("create", to))?;
    if ioctl_ficlone(&target, &source).is_err() {
        copy_data(&source, &target).map_err(failed("copy to", to))?;
    }
    Ok(target)
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut buffer = vec![0; COPY_CHUNK];
    let mut at = 0;
    while at < length {
        let start = match seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(source, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let wanted = usize::try_from(end - at).map_or(COPY_CHUNK, |left| left.min(COPY_CHUNK));
            source.read_exact_at(&mut buffer[..wanted], at)?;
            target.write_all_at(&buffer[..wanted], at)?;
            at += wanted as u64;
        }
    }
    Ok(())
}

fn failed<'a>(attempt: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::Io { attempt, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_has_the_data_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(&[7; 5000], 300 << 20).unwrap();
        copy_sparse(&from, &to).unwrap();
        let copy = File::open(&to).unwrap();
        let mut found = [0; 5002];
        copy.read_exact_at(&mut found, (300 << 20) - 1).unwrap();
        assert_eq!(found[0], 0);
        assert!(found[1..5001].iter().all(|byte| *byte == 7));
        assert_eq!(copy.metadata().unwrap().len(), 1 << 30);
        assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_disk_is_made_once_and_costs_little() {
        let dir = tempfile::tempdir().unwrap();
        let disks = WritableDisks::new(dir.path().to_owned());
        let path = dir.path().join("writable.ext4");
        let disk = disks.open(&path).unwrap();
        assert_eq!(disk.metadata().unwrap().len(), WRITABLE_DISK_BYTES);
        let bytes = disk.metadata().unwrap().blocks() * 512;
        assert!(bytes < 8 << 20, "an empty disk costs {bytes} bytes");
        disk.write_all_at(b"mine", 5 << 30).unwrap();
        let again = disks.open(&path).unwrap();
        let mut found = [0; 4];
        again.read_exact_at(&mut found, 5 << 30).unwrap();
        assert_eq!(&found, b"mine");
        let leftovers: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "new"))
            .collect();
        assert!(leftovers.is_empty(), "{leftovers:?}");
    }
}
