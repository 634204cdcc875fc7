//! What every container finds in `/dev` (runtime-spec `config-linux.md`, default devices, and
//! `runtime-linux.md`, dev symbolic links).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chownat, makedev, mknodat, openat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::error::{Attempt, ContainerError};
use super::root_dir::RootDir;

const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// Makes the standard devices and links in `/dev`, and the devices of the spec. Returns
/// `/dev/null`, opened with `O_PATH`.
///
/// # Errors
/// [`ContainerError`]
pub fn create_all(root: &RootDir, devices: &[LinuxDevice]) -> Result<OwnedFd, ContainerError> {
    let dev = root.create_dir_all(Path::new("/dev")).attempt(|| "open /dev".to_owned())?;
    for (name, major, minor) in DEVICES {
        let node = Node { kind: FileType::CharacterDevice, mode: 0o666, major, minor };
        node.create(&dev, name).attempt(|| format!("create /dev/{name}"))?;
    }
    for (name, target) in LINKS {
        replace(|| symlinkat(target, &dev, name), &dev, name)
            .attempt(|| format!("create the link /dev/{name}"))?;
    }
    for device in devices {
        create_one(root, device)?;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&dev, "null", flags, Mode::empty()).attempt(|| "open /dev/null".to_owned())
}

struct Node {
    kind: FileType,
    mode: u32,
    major: u32,
    minor: u32,
}

impl Node {
    fn create(&self, directory: impl AsFd, name: &str) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(self.mode & 0o7777);
        let device = makedev(self.major, self.minor);
        let make = || mknodat(&directory, name, self.kind, mode, device);
        replace(make, &directory, name)
    }
}

/// Makes something, in the place of what an image may have there.
fn replace(
    make: impl Fn() -> Result<(), Errno>,
    directory: impl AsFd,
    name: &str,
) -> Result<(), Errno> {
    match make() {
        Err(Errno::EXIST) => {
            unlinkat(directory, name, AtFlags::empty())?;
            make()
        }
        result => result,
    }
}

fn create_one(root: &RootDir, device: &LinuxDevice) -> Result<(), ContainerError> {
    let path = device.path();
    let invalid =
        |reason: &str| ContainerError::invalid(format!("device {}", path.display()), reason);
    let (Some(parent), Some(name)) =
        (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Err(invalid("its path names no file"));
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| invalid("bad device number"));
    let node = Node {
        kind: match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => return Err(invalid("type a is not a type of device")),
        },
        mode: device.file_mode().unwrap_or(0o666),
        major: number(device.major())?,
        minor: number(device.minor())?,
    };
    let attempt = || format!("create {}", path.display());
    let directory = root.create_dir_all(parent).attempt(attempt)?;
    node.create(&directory, name).attempt(attempt)?;
    let owner = device.uid().map(Uid::from_raw);
    let group = device.gid().map(Gid::from_raw);
    chownat(&directory, name, owner, group, AtFlags::SYMLINK_NOFOLLOW).attempt(attempt)
}
