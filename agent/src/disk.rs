//! Finds the guest's disks by their virtio-blk serial.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a disk was not found.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The list of disks could not be read.
    #[error("failed to list the disks in {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// None has that serial.
    #[error("no disk has the serial {serial:?}")]
    Absent {
        /// The serial asked for.
        serial: String,
    },
}

/// Where disks are looked for.
#[derive(Clone, Debug)]
pub struct Disks {
    /// A directory with one entry a disk, each holding a file `serial`: `/sys/block`.
    pub list: PathBuf,
    /// Where the device nodes are, named like the entries: `/dev`.
    pub nodes: PathBuf,
}

impl Disks {
    /// The device node of the disk with that serial.
    ///
    /// # Errors
    /// [`DiskError`]
    pub fn find(&self, serial: &str) -> Result<PathBuf, DiskError> {
        let list = |source| DiskError::List { path: self.list.clone(), source };
        for entry in fs::read_dir(&self.list).map_err(list)? {
            let entry = entry.map_err(list)?;
            if read_serial(&entry.path()).is_some_and(|found| found == serial) {
                return Ok(self.nodes.join(entry.file_name()));
            }
        }
        Err(DiskError::Absent { serial: serial.to_owned() })
    }
}

fn read_serial(disk: &Path) -> Option<String> {
    let text = fs::read_to_string(disk.join("serial")).ok()?;
    Some(text.trim_end_matches(['\n', '\0']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_its_whole_serial() {
        let list = tempfile::tempdir().unwrap();
        for (name, serial) in [("vda", Some("system")), ("vdb", Some("image\n")), ("loop0", None)] {
            fs::create_dir(list.path().join(name)).unwrap();
            if let Some(serial) = serial {
                fs::write(list.path().join(name).join("serial"), serial).unwrap();
            }
        }
        let disks = Disks { list: list.path().into(), nodes: "/dev".into() };
        assert_eq!(disks.find("image").unwrap(), Path::new("/dev/vdb"));
        assert_eq!(disks.find("system").unwrap(), Path::new("/dev/vda"));
        assert_eq!(disks.find("imag").unwrap_err().to_string(), "no disk has the serial \"imag\"");
    }
}
