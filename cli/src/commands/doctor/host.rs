//! What of the host matters besides the accelerator: tools, cgroups, space.

use std::path::{Path, PathBuf};

use super::check::Finding;
use crate::format::units;
use crate::location;

/// Less free space than this does not hold a middling image and its writable layer.
const SPACE_WANTED: u64 = 2 << 30;

/// Where administrators' programs are even if the search path does not say so.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Looks at everything.
pub(super) fn findings() -> Vec<Finding> {
    vec![file_system_maker(), cgroups(Path::new("/sys/fs/cgroup")), space(&location::data_root())]
}

fn file_system_maker() -> Finding {
    match program("mkfs.ext4") {
        Some(path) => Finding::ok("mkfs.ext4", path.display().to_string()),
        None => Finding::fail(
            "mkfs.ext4",
            "not found, so writable layers cannot be made",
            "install e2fsprogs",
        ),
    }
}

/// Finds a program on the search path.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// The containers' own limits are set inside of the guest; on the host either version will do.
fn cgroups(root: &Path) -> Finding {
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers"));
    match controllers {
        Ok(controllers) if !controllers.trim().is_empty() => {
            Finding::ok("cgroups", format!("version 2 ({})", controllers.trim()))
        }
        Ok(_) => Finding::ok("cgroups", "version 2 without controllers"),
        Err(_) if root.join("memory").is_dir() => Finding::ok("cgroups", "version 1"),
        Err(_) => Finding::warn(
            "cgroups",
            format!("none mounted at {}", root.display()),
            "limits hold inside microVMs only",
        ),
    }
}

/// Free space where the data root is, or will be made.
fn space(data_root: &Path) -> Finding {
    const NAME: &str = "data root";
    let existing = data_root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(existing) {
        Ok(volume) => volume.f_bavail.saturating_mul(volume.f_frsize),
        Err(error) => {
            let detail = format!("{}: {error}", existing.display());
            return Finding::fail(NAME, detail, "choose another --data-root");
        }
    };
    let detail = format!("{} free in {}", units::size(free), data_root.display());
    if free < SPACE_WANTED {
        Finding::warn(NAME, detail, "free some space, or choose another --data-root")
    } else {
        Finding::ok(NAME, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn cgroup_versions_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(cgroups(directory.path()).status, Status::Warn);
        std::fs::create_dir(directory.path().join("memory")).unwrap();
        assert_eq!(cgroups(directory.path()).detail, "version 1");
        std::fs::write(directory.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert_eq!(cgroups(directory.path()).detail, "version 2 (cpu memory)");
    }

    #[test]
    fn space_is_measured_where_the_data_root_will_be() {
        let directory = tempfile::tempdir().unwrap();
        let finding = space(&directory.path().join("not/yet"));
        assert_ne!(finding.status, Status::Fail);
        assert!(finding.detail.contains("free in"));
    }
}
