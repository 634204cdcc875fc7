//! Mounts made by the descriptor-based mount interface, so that no path is resolved twice and no
//! symbolic link of a hostile image decides where a mount goes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// Bytes of the kernel's explanation that are kept.
const LOG_MAX: usize = 256;

/// Why a file system could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel does not know the type.
    #[error("failed to open file system type {kind}")]
    Type {
        /// The type.
        kind: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// An option was refused.
    #[error("failed to set option {option:?} of {kind}")]
    Option {
        /// The type.
        kind: String,
        /// The option.
        option: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The file system could not be made.
    #[error("failed to mount {kind}{detail}")]
    Create {
        /// The type.
        kind: String,
        /// The kernel's explanation, if it gave one.
        detail: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

/// A file system to mount.
#[derive(Clone, Copy, Debug)]
pub struct FileSystem<'a> {
    /// The type, as in `/proc/filesystems`.
    pub kind: &'a str,
    /// Source and options: a name alone, or a name and a value.
    pub options: &'a [(&'a str, Option<&'a str>)],
    /// Attributes of the mount.
    pub attributes: MountAttrFlags,
}

impl FileSystem<'_> {
    /// Mounts it nowhere yet: [`attach`] gives it a place.
    ///
    /// # Errors
    /// [`MountError`]
    pub fn mount(&self) -> Result<OwnedFd, MountError> {
        let kind = || self.kind.to_owned();
        let context = fsopen(self.kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|error| MountError::Type { kind: kind(), source: error.into() })?;
        for (name, value) in self.options {
            let result = match value {
                Some(value) => fsconfig_set_string(&context, *name, *value),
                None => fsconfig_set_flag(&context, *name),
            };
            result.map_err(|error| MountError::Option {
                kind: kind(),
                option: (*name).to_owned(),
                source: error.into(),
            })?;
        }
        fsconfig_create(&context)
            .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes))
            .map_err(|error| MountError::Create {
                kind: kind(),
                detail: explanation(&context),
                source: error.into(),
            })
    }
}

/// Puts a mount that has no place yet onto `target`, a directory or file opened with `O_PATH`.
///
/// # Errors
/// The kernel's.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Puts a mount that has no place yet onto a path of the agent's own tree.
///
/// # Errors
/// The kernel's.
pub fn attach_at(mount: impl AsFd, path: &std::path::Path) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// A second mount of what is open behind `source`, to be [`attach`]ed (a bind mount).
///
/// # Errors
/// The kernel's.
pub fn clone_tree(source: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(source, "", flags)?)
}

/// What the kernel says about a failed mount: messages like `e erofs: bad superblock`.
fn explanation(context: &OwnedFd) -> String {
    let mut message = [0; LOG_MAX];
    match rustix::io::read(context, &mut message) {
        Ok(count) if count > 2 => {
            format!(" ({})", String::from_utf8_lossy(&message[2..count]).trim())
        }
        _ => String::new(),
    }
}
