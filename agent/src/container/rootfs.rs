//! The root file system: an overlay of the image disk and the writable disk, in a directory of
//! its own on the agent's side. The container gets a copy of the mounts in its own namespace.
//!
//! ```text
//!   <run>/<id>/image     EROFS, read-only
//!   <run>/<id>/writable  ext4 with upper/ and work/
//!   <run>/<id>/root      the overlay
//!   <run>/<id>/files/N   files that the host provides
//! ```

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use husk_protocol::Rootfs as RootfsRequest;
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};

use super::error::{Attempt, ContainerError, chain};
use crate::console;
use crate::disk::Disks;
use crate::mount::{FileSystem, attach_at};

/// A mounted root file system; unmounted when dropped.
#[derive(Debug)]
pub struct Rootfs {
    directory: PathBuf,
    /// What is mounted, in order.
    mounted: Vec<PathBuf>,
}

impl Rootfs {
    /// Mounts the disks that `request` names below `directory`, which must not exist yet.
    ///
    /// # Errors
    /// [`ContainerError`]; nothing stays mounted then.
    pub fn mount(
        directory: PathBuf,
        disks: &Disks,
        request: &RootfsRequest,
    ) -> Result<Self, ContainerError> {
        let image = disks.find(&request.image_disk)?;
        let writable = disks.find(&request.writable_disk)?;
        create_dir(&directory)?;
        let mut rootfs = Self { directory, mounted: Vec::new() };
        let plain = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOATIME;
        let source = path_text(&image)?;
        rootfs.attach(
            "image",
            &FileSystem {
                kind: "erofs",
                options: &[("source", Some(source)), ("ro", None)],
                attributes: plain | MountAttrFlags::MOUNT_ATTR_RDONLY,
            },
        )?;
        let source = path_text(&writable)?;
        rootfs.attach(
            "writable",
            &FileSystem {
                kind: "ext4",
                options: &[("source", Some(source)), ("errors", Some("remount-ro"))],
                attributes: plain,
            },
        )?;
        rootfs.attach_overlay()?;
        Ok(rootfs)
    }

    /// The overlay.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Writes a file that the host provides; the container gets it as a bind mount.
    ///
    /// # Errors
    /// [`ContainerError`]
    pub fn write_file(&self, index: usize, text: &str) -> Result<PathBuf, ContainerError> {
        let files = self.directory.join("files");
        if !files.exists() {
            create_dir(&files)?;
        }
        let path = files.join(index.to_string());
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .attempt(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn attach(&mut self, name: &str, file_system: &FileSystem<'_>) -> Result<(), ContainerError> {
        let target = self.directory.join(name);
        create_dir(&target)?;
        let mount = file_system.mount().map_err(|source| ContainerError::Mount {
            target: target.display().to_string(),
            source,
        })?;
        attach_at(mount, &target).attempt(|| format!("mount {}", target.display()))?;
        self.mounted.push(target);
        Ok(())
    }

    fn attach_overlay(&mut self) -> Result<(), ContainerError> {
        let image = self.directory.join("image");
        let upper = self.directory.join("writable/upper");
        let work = self.directory.join("writable/work");
        if !upper.exists() {
            create_upper(&image, &upper).attempt(|| format!("create {}", upper.display()))?;
        }
        if !work.exists() {
            create_dir(&work)?;
        }
        let options = [
            ("source", Some("overlay")),
            ("lowerdir", Some(path_text(&image)?)),
            ("upperdir", Some(path_text(&upper)?)),
            ("workdir", Some(path_text(&work)?)),
        ];
        self.attach(
            "root",
            &FileSystem { kind: "overlay", options: &options, attributes: MountAttrFlags::empty() },
        )
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        for target in self.mounted.iter().rev() {
            if unmount(target, UnmountFlags::NOFOLLOW).is_err() {
                // Busy: gone from the tree now, and from the kernel once its last user ends.
                if let Err(error) = unmount(target, UnmountFlags::DETACH) {
                    console::error(format_args!("failed to unmount {}: {error}", target.display()));
                }
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            console::error(format_args!(
                "failed to remove {}: {}",
                self.directory.display(),
                chain(&error)
            ));
        }
    }
}

/// Makes the upper directory look like the image's root, whose place it takes.
fn create_upper(image: &Path, upper: &Path) -> io::Result<()> {
    let model = fs::metadata(image)?;
    DirBuilder::new().mode(0o700).create(upper)?;
    chown(upper, Some(model.uid()), Some(model.gid()))?;
    fs::set_permissions(upper, Permissions::from_mode(model.mode() & 0o7777))
}

fn create_dir(path: &Path) -> Result<(), ContainerError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .attempt(|| format!("create the directory {}", path.display()))
}

fn path_text(path: &Path) -> Result<&str, ContainerError> {
    path.to_str().ok_or_else(|| ContainerError::invalid("path", "it is not text"))
}
