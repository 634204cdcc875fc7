//! What an emulator finds where the host's files were.
//!
//! QEMU is a dynamic program that opens its firmware by path, so its root cannot be empty. It gets
//! the directories of programs and libraries, the loader's cache, whatever else its own path needs,
//! and its own `/proc/self/fd`, by which it opens the kernel that it inherits as a descriptor. All of
//! that is read-only, without devices and without set-user-ID programs. There is no `/dev`, `/tmp`,
//! `/home`, `/run`, and nothing else of `/etc`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::root::Root;
use super::{Identity, Jail, JailError, identity, limits};
use crate::sys::unshare_mounts;

/// Where programs and libraries are, as links into `/usr` or as directories of their own.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Tells the loader where each library is.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// Package stores in which a program needs its neighbours.
const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];

/// By which the emulator opens what it has inherited.
const OWN_FDS: &str = "/proc/self/fd";

/// The jail of an emulator, to be entered by the process that becomes it.
#[derive(Debug)]
pub(crate) struct EmulatorJail {
    identity: Identity,
    /// `None` where there are no namespaces to be had.
    paths: Option<Vec<PathBuf>>,
    file_length_max: u64,
}

impl EmulatorJail {
    /// For the emulator at `program`, a path without links, beside a VMM in `jail`.
    pub(super) fn new(program: &Path, jail: &Jail) -> Self {
        let paths = jail.namespaces.then(|| needed(program));
        Self { identity: jail.identity, paths, file_length_max: jail.file_length_max }
    }

    /// Enters it.
    pub(crate) fn enter(&self) -> Result<(), JailError> {
        let failed = |attempt| move |source| JailError::Process { attempt, source };
        let root = match &self.paths {
            Some(paths) => Some(hold(paths)?),
            None => None,
        };
        self.identity.assume().map_err(failed("become nobody"))?;
        if let Some(root) = root {
            root.enter()?;
        }
        limits::set(self.file_length_max).map_err(failed("set limits"))?;
        identity::drop_privileges().map_err(failed("drop privileges"))
    }
}

/// Holds what is there of `paths`.
fn hold(paths: &[PathBuf]) -> Result<Root, JailError> {
    let failed = |source| JailError::Root { attempt: "get mounts of its own", source };
    unshare_mounts().map_err(failed)?;
    let mut root = Root::default();
    for path in paths {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(path);
                let target =
                    target.map_err(|source| JailError::Path { path: path.clone(), source })?;
                root.link(target, path);
            }
            Ok(_) => root.show(path, path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(JailError::Path { path: path.clone(), source }),
        }
    }
    root.show(Path::new(OWN_FDS), Path::new(OWN_FDS))?;
    Ok(root)
}

/// What a program at that path needs.
fn needed(program: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = SYSTEM.into_iter().chain([LOADER_CACHE]).map(PathBuf::from).collect();
    if !paths.iter().any(|path| program.starts_with(path)) {
        paths.push(installation(program));
    }
    paths
}

/// The part of the host that a program outside the system's directories belongs to: its package
/// store, or what lies around a directory `bin`, or itself alone.
fn installation(program: &Path) -> PathBuf {
    if let Some(store) = STORES.iter().find(|store| program.starts_with(store)) {
        return PathBuf::from(store);
    }
    let folder = program.parent();
    let prefix = folder.filter(|folder| folder.ends_with("bin")).and_then(Path::parent);
    // A directory `/bin` belongs to the whole host.
    let prefix = prefix.filter(|prefix| prefix.parent().is_some());
    prefix.unwrap_or(program).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_outside_the_systems_directories_brings_its_own() {
        let of = |program: &str| needed(Path::new(program)).pop().unwrap();
        assert_eq!(of("/usr/bin/qemu-system-x86_64"), Path::new(LOADER_CACHE));
        assert_eq!(of("/opt/qemu/bin/qemu-system-x86_64"), Path::new("/opt/qemu"));
        assert_eq!(of("/nix/store/x-qemu-9/bin/qemu"), Path::new("/nix/store"));
        assert_eq!(of("/home/me/qemu"), Path::new("/home/me/qemu"), "not all of a home");
    }
}
