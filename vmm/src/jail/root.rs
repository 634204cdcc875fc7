//! A root directory with nothing in it but what was put there.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, fstat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, mount_move, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::JailError;
use crate::sys::set_mount_attributes;

/// Where the new root is put together: a directory that every host has. What is there in the host's
/// namespace stays as it is.
const PLACE: &str = "/proc";

/// What the root file system may hold: directories and links, but no data to speak of.
const LIMITS: &str = "mode=0755,size=64k,nr_inodes=256";

/// A root directory to be. What it will show is held already, while it can still be reached.
#[derive(Debug, Default)]
pub(super) struct Root {
    trees: Vec<Tree>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// A file or directory of the host, with all mounts below it.
#[derive(Debug)]
struct Tree {
    mount: OwnedFd,
    is_directory: bool,
    place: PathBuf,
}

impl Root {
    /// Holds what is at `path` of the host, to be shown read-only at `place`.
    pub(super) fn show(&mut self, path: &Path, place: &Path) -> Result<(), JailError> {
        let failed = |source| JailError::Path { path: path.to_owned(), source };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let mount = open_tree(CWD, path, flags).map_err(|error| failed(error.into()))?;
        let kind = fstat(&mount).map_err(|error| failed(error.into()))?.st_mode;
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        set_mount_attributes(mount.as_fd(), attributes).map_err(failed)?;
        let is_directory = FileType::from_raw_mode(kind) == FileType::Directory;
        let place = place.strip_prefix("/").unwrap_or(place).to_owned();
        self.trees.push(Tree { mount, is_directory, place });
        Ok(())
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, target: PathBuf, place: &Path) {
        self.links.push((target, place.strip_prefix("/").unwrap_or(place).to_owned()));
    }

    /// Makes it the root directory of this process, which has mounts of its own: nothing else of the
    /// host can be reached by a path any more.
    pub(super) fn enter(self) -> Result<(), JailError> {
        let failed = |attempt| move |source| JailError::Root { attempt, source };
        self.put_together().map_err(failed("put its root directory together"))?;
        leave_old_root().map_err(failed("leave the host's root directory"))?;
        let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC)
            .map_err(|error| failed("open its root directory")(error.into()))?;
        set_attributes_of_root(&root).map_err(failed("make its root directory read-only"))
    }

    /// Leaves the new root as the working directory.
    fn put_together(self) -> io::Result<()> {
        // What we mount stays with us.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let limits = std::ffi::CString::new(LIMITS)?;
        mount("husk-jail", PLACE, "tmpfs", flags, limits.as_c_str())?;
        chdir(PLACE)?;
        for Tree { mount, is_directory, place } in self.trees {
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            if is_directory {
                fs::create_dir_all(&place)?;
            } else {
                fs::write(&place, [])?;
            }
            move_mount(&mount, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
        for (target, place) in self.links {
            symlink(target, place)?;
        }
        Ok(())
    }
}

fn set_attributes_of_root(root: &OwnedFd) -> io::Result<()> {
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_mount_attributes(root.as_fd(), attributes)
}

/// The working directory becomes the root; the old one is gone with all its mounts.
fn leave_old_root() -> io::Result<()> {
    match pivot_root(".", ".") {
        Ok(()) => {
            // The old root lies on top of the new one.
            unmount(".", UnmountFlags::DETACH)?;
        }
        // The host runs from its initial RAM file system, which cannot be left, only covered.
        Err(rustix::io::Errno::INVAL) => {
            let new = open_tree(CWD, ".", OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
            mount_move(".", "/")?;
            fchdir(&new)?;
            chroot(".")?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(chdir("/")?)
}
