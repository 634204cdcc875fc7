//! A container's cgroup (kernel `admin-guide/cgroup-v2`).

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::device_rule;
use super::error::{Attempt, ContainerError};
use super::resource::{Setting, settings};
use crate::console;
use crate::sys::{device_filter, process::kill};

/// Signal number of `SIGKILL`.
const SIGKILL: i32 = 9;

/// A cgroup; removed when dropped, which must be after the end of all its processes.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

impl Cgroup {
    /// Makes the cgroup `name` below `parent`.
    ///
    /// # Errors
    /// [`ContainerError`]
    pub fn create(parent: &Path, name: &str) -> Result<Self, ContainerError> {
        let path = parent.join(name);
        let attempt = || format!("create the cgroup {}", path.display());
        fs::create_dir(&path).attempt(attempt)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { path, directory }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error).attempt(attempt)
            }
        }
    }

    /// Sets limits and the devices that may be used.
    ///
    /// # Errors
    /// [`ContainerError`]; one that names the controller if the kernel does not have it.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), ContainerError> {
        for setting in settings(resources)? {
            self.write(&setting)?;
        }
        let rules = resources.devices().as_deref().unwrap_or_default();
        let program = device_rule::compile(rules)?;
        device_filter::attach(&self.directory, &program)
            .attempt(|| format!("restrict the devices of the cgroup {}", self.path.display()))
    }

    /// Sends a signal to every process in it, also in cgroups below.
    ///
    /// # Errors
    /// [`ContainerError`]
    pub fn signal_all(&self, signal: i32) -> Result<(), ContainerError> {
        if signal == SIGKILL && write_existing(&self.path.join("cgroup.kill"), "1").is_ok() {
            return Ok(());
        }
        signal_tree(&self.path, signal)
            .attempt(|| format!("signal the processes of the cgroup {}", self.path.display()))
    }

    /// Whether the kernel killed a process in it for want of memory.
    pub fn was_oom_killed(&self) -> bool {
        fs::read_to_string(self.path.join("memory.events"))
            .is_ok_and(|events| counts_oom_kill(&events))
    }

    fn write(&self, setting: &Setting) -> Result<(), ContainerError> {
        match write_existing(&self.path.join(&setting.file), &setting.value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if setting.optional {
                    return Ok(());
                }
                let controller = setting.file.split('.').next().unwrap_or_default();
                Err(ContainerError::Unsupported(format!(
                    "{} in this kernel (its cgroup controller {controller} is not available)",
                    setting.file
                )))
            }
            result => result.attempt(|| format!("set {} to {:?}", setting.file, setting.value)),
        }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            console::error(format_args!(
                "failed to remove the cgroup {}: {error}",
                self.path.display()
            ));
        }
    }
}

/// Makes every controller of the cgroup at `path` available to those below it.
///
/// # Errors
/// The kernel's.
pub fn enable_controllers(path: &Path) -> io::Result<()> {
    for controller in fs::read_to_string(path.join("cgroup.controllers"))?.split_whitespace() {
        fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(())
}

/// Writes to a file of a cgroup. Trying to create one would fail in a way that hides its absence.
fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn signal_tree(path: &Path, signal: i32) -> io::Result<()> {
    for line in fs::read_to_string(path.join("cgroup.procs"))?.lines() {
        let Ok(pid) = line.parse() else { continue };
        match kill(pid, signal) {
            // Ended in the meantime.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => result?,
        }
    }
    children(path).try_for_each(|child| signal_tree(&child, signal))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    children(path).try_for_each(|child| remove_tree(&child))?;
    fs::remove_dir(path)
}

fn children(path: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

fn counts_oom_kill(events: &str) -> bool {
    events
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .any(|count| count.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kill_counts_as_one() {
        assert!(counts_oom_kill("low 0\noom 1\noom_kill 2\noom_group_kill 0\n"));
        assert!(!counts_oom_kill("low 0\noom 1\noom_kill 0\noom_group_kill 3\n"));
        assert!(!counts_oom_kill(""));
    }
}
