//! Paths inside a container's root. The image is hostile: its symbolic links are followed as if
//! the root were `/`, never out of it, and never through `/proc`'s magic links.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

/// Dangling symbolic links followed at most, as the kernel's own limit.
const LINKS_MAX: usize = 40;

/// The root directory of a container.
#[derive(Debug)]
pub struct RootDir(OwnedFd);

impl RootDir {
    /// Takes a directory, opened with `O_PATH` or for reading, as the root.
    pub fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens what is at `path`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::empty())
    }

    /// Opens what is at `path`, provided no part of it is a symbolic link.
    ///
    /// # Errors
    /// The kernel's; `ELOOP` for a symbolic link.
    pub fn open_no_links(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    /// Opens the directory at `path` with `O_PATH`, and makes what is missing of it, mode 0755.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<OwnedFd> {
        self.create_dir_following(path, LINKS_MAX)
    }

    /// Opens the file at `path` with `O_PATH`, and makes it, empty, if it is missing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create_file(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            match self.open(&path, OFlags::PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
            let (parent, name) = split(&path)?;
            let directory = self.create_dir_all(&parent)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            match openat(&directory, &name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) => {}
                // A link to what does not exist: that is where the file belongs.
                Err(Errno::EXIST) => path = follow(&directory, &parent, &name)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::LOOP.into())
    }

    fn create_dir_following(&self, path: &Path, links_left: usize) -> io::Result<OwnedFd> {
        let mut so_far = PathBuf::from("/");
        let mut current = self.open(&so_far, OFlags::PATH | OFlags::DIRECTORY)?;
        for component in path.components() {
            let Component::Normal(name) = component else {
                if component == Component::ParentDir {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                continue;
            };
            let parent = so_far.clone();
            so_far.push(name);
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            current = match self.open(&so_far, flags) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match mkdirat(&current, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) => self.open(&so_far, flags)?,
                        Err(Errno::EXIST) if links_left > 0 => {
                            let target = follow(&current, &parent, Path::new(name))?;
                            self.create_dir_following(&target, links_left - 1)?
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                result => result?,
            };
        }
        Ok(current)
    }

    fn open_with(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        Ok(openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

/// Where the link `name` in `directory`, which is at `parent`, points.
fn follow(directory: impl AsFd, parent: &Path, name: &Path) -> io::Result<PathBuf> {
    let status = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
        return Err(Errno::EXIST.into());
    }
    let target = readlinkat(&directory, name, Vec::new())?;
    let target = Path::new(std::ffi::OsStr::from_bytes(target.to_bytes()));
    // An absolute target replaces the whole path, a relative one starts at the link's directory.
    Ok(without_parents(&parent.join(target)))
}

/// Resolves `..` by the text alone; of a path that does not exist yet there is nothing else.
fn without_parents(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

fn split(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), PathBuf::from(name))),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, RootDir) {
        let directory = tempfile::tempdir().unwrap();
        let fd = openat(rustix::fs::CWD, directory.path(), OFlags::PATH, Mode::empty()).unwrap();
        (directory, RootDir::new(fd))
    }

    #[test]
    fn absolute_links_and_parents_stay_inside() {
        let (directory, root) = root();
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(directory.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc", directory.path().join("link")).unwrap();
        symlink("../../../../etc", directory.path().join("up")).unwrap();
        for path in ["/link/passwd", "/up/passwd", "/../../etc/passwd"] {
            let file = root.open(Path::new(path), OFlags::RDONLY).unwrap();
            assert_eq!(io::read_to_string(fs::File::from(file)).unwrap(), "inside", "{path}");
        }
        assert!(root.open_no_links(Path::new("/link"), OFlags::PATH).is_err());
    }

    #[test]
    fn missing_directories_are_made_inside() {
        let (directory, root) = root();
        symlink("/run/deep", directory.path().join("var")).unwrap();
        root.create_dir_all(Path::new("/var/lib/x")).unwrap();
        assert!(directory.path().join("run/deep/lib/x").is_dir());
    }

    #[test]
    fn a_file_behind_a_dangling_link_is_made_where_it_points() {
        let (directory, root) = root();
        fs::create_dir(directory.path().join("etc")).unwrap();
        symlink("../run/x/resolv.conf", directory.path().join("etc/resolv.conf")).unwrap();
        root.create_file(Path::new("/etc/resolv.conf")).unwrap();
        assert!(directory.path().join("run/x/resolv.conf").is_file());
    }

    #[test]
    fn links_in_a_circle_end() {
        let (directory, root) = root();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert!(root.create_file(Path::new("/a")).is_err());
        assert!(root.create_dir_all(Path::new("/a/x")).is_err());
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_an_error() {
        let (directory, root) = root();
        fs::write(directory.path().join("f"), "").unwrap();
        assert!(root.create_dir_all(Path::new("/f/x")).is_err());
    }
}
