//! The mounts of a spec, made inside the container's root.

use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::Mount;
use rustix::fs::OFlags;
use rustix::mount::MountAttrFlags;

use super::error::{Attempt, ContainerError};
use super::mount_option::MountOptions;
use super::root_dir::RootDir;
use crate::mount::{FileSystem, attach, clone_tree};
use crate::sys::mount_attr::set_attributes;

/// Makes the mounts in order. Returns the one of type devpts, where terminals come from.
///
/// # Errors
/// [`ContainerError`]
pub fn mount_all(root: &RootDir, mounts: &[Mount]) -> Result<Option<OwnedFd>, ContainerError> {
    let mut terminals = None;
    for mount in mounts {
        let target = mount.destination();
        let kind = file_system(mount)?;
        let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default())?;
        let shown = || target.display().to_string();
        // Masking and read-only paths rely on these two being where they are said to be.
        if matches!(kind, "proc" | "sysfs") {
            refuse_link(root, target)?;
        }
        let directory = root
            .create_dir_all(target)
            .attempt(|| format!("create the mount point {}", target.display()))?;
        let mut all = vec![("source", Some(kind))];
        all.extend(options.options);
        let made = FileSystem { kind, options: &all, attributes: options.attributes }
            .mount()
            .map_err(|source| ContainerError::Mount { target: shown(), source })?;
        attach(&made, directory).attempt(|| format!("mount {}", shown()))?;
        if kind == "devpts" {
            terminals = Some(made);
        }
    }
    Ok(terminals)
}

/// Binds a tree that has no place yet over the file `target`, which is made if it is missing.
///
/// # Errors
/// [`ContainerError`]
pub fn bind_file(root: &RootDir, tree: &OwnedFd, target: &Path) -> Result<(), ContainerError> {
    root.create_file(target)
        .and_then(|file| attach(tree, file))
        .attempt(|| format!("bind a file over {}", target.display()))
}

/// Hides what is at `path`: a file behind `/dev/null`, a directory behind an empty one.
///
/// # Errors
/// [`ContainerError`]
pub fn mask(root: &RootDir, path: &Path, null: &OwnedFd) -> Result<(), ContainerError> {
    let attempt = || format!("mask {}", path.display());
    let Some(target) = open_if_present(root, path)? else { return Ok(()) };
    let status = rustix::fs::fstat(&target).attempt(attempt)?;
    let cover = if rustix::fs::FileType::from_raw_mode(status.st_mode).is_dir() {
        FileSystem {
            kind: "tmpfs",
            options: &[("source", Some("tmpfs")), ("size", Some("0")), ("nr_inodes", Some("2"))],
            attributes: MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        }
        .mount()
        .map_err(|source| ContainerError::Mount { target: path.display().to_string(), source })?
    } else {
        clone_tree(null, false).attempt(attempt)?
    };
    attach(cover, target).attempt(attempt)
}

/// Makes what is at `path` read-only, with all mounts below.
///
/// # Errors
/// [`ContainerError`]
pub fn make_read_only(root: &RootDir, path: &Path) -> Result<(), ContainerError> {
    let attempt = || format!("make {} read-only", path.display());
    let Some(target) = open_if_present(root, path)? else { return Ok(()) };
    let cover = clone_tree(&target, true).attempt(attempt)?;
    set_attributes(&cover, MountAttrFlags::MOUNT_ATTR_RDONLY, true).attempt(attempt)?;
    attach(cover, target).attempt(attempt)
}

/// The kernel's name of the file system, if it is one that a container may have.
fn file_system(mount: &Mount) -> Result<&'static str, ContainerError> {
    let kind = mount.typ().as_deref().unwrap_or("none");
    Ok(match kind {
        "proc" => "proc",
        "sysfs" => "sysfs",
        "tmpfs" => "tmpfs",
        "devpts" => "devpts",
        "mqueue" => "mqueue",
        "cgroup" | "cgroup2" => "cgroup2",
        _ => {
            return Err(ContainerError::Unsupported(format!(
                "mounting type {kind} at {}",
                mount.destination().display()
            )));
        }
    })
}

fn refuse_link(root: &RootDir, target: &Path) -> Result<(), ContainerError> {
    match root.open_no_links(target, OFlags::PATH) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Err(ContainerError::invalid(
            format!("image: {}", target.display()),
            "it is a symbolic link, it must be a directory",
        )),
        _ => Ok(()),
    }
}

fn open_if_present(root: &RootDir, path: &Path) -> Result<Option<OwnedFd>, ContainerError> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match root.open(path, OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        Err(error) => Err(error).attempt(|| format!("open {}", path.display())),
    }
}
