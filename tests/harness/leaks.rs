//! The machine as it was found: no process, socket, mount, link, cgroup or file of ours is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::ended_within;
use crate::{Result, pace};

/// How long what is released behind the answer may take.
const RELEASE_DEADLINE: Duration = Duration::from_secs(20);

/// A process that belongs to one Husk.
#[derive(Debug)]
pub struct Process {
    /// Its ID.
    pub pid: Pid,
    /// Its name.
    pub program: String,
    /// Its arguments, joined by spaces.
    pub command: String,
}

/// What of the whole machine is looked at: names that a Husk may add and must remove.
#[derive(Debug, Default)]
pub struct Baseline {
    links: BTreeSet<String>,
    cgroups: BTreeSet<String>,
}

impl Baseline {
    /// Looks at the machine.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn take() -> Result<Self> {
        let mut cgroups = BTreeSet::new();
        cgroup_folders(Path::new("/sys/fs/cgroup"), 0, &mut cgroups);
        Ok(Self { links: names(Path::new("/sys/class/net"))?, cgroups })
    }
}

/// All processes that carry `root` in their arguments, environment, working directory, executable
/// or open files; the calling process and threads of it are not among them.
///
/// # Errors
/// If `/proc` cannot be listed.
pub fn processes(root: &Path) -> Result<Vec<Process>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for name in names(Path::new("/proc"))? {
        let Ok(number) = name.parse::<i32>() else { continue };
        let folder = Path::new("/proc").join(&name);
        if u32::try_from(number).is_ok_and(|number| number == own) || !is_marked(&folder, root) {
            continue;
        }
        let command = fs::read(folder.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let program = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let pid = Pid::from_raw(number).context("a process ID from /proc is not 0")?;
        // An ended process whose parent is ours and has not collected it yet shows no arguments.
        if !command.is_empty() {
            found.push(Process { pid, program: program.trim_end().to_owned(), command });
        }
    }
    Ok(found)
}

fn is_marked(folder: &Path, root: &Path) -> bool {
    let mark = root.as_os_str().as_bytes();
    let in_file = |name| fs::read(folder.join(name)).is_ok_and(|bytes| holds(&bytes, mark));
    let in_link = |path: &Path| {
        fs::read_link(path).is_ok_and(|target| holds(target.as_os_str().as_bytes(), mark))
    };
    let in_files = || {
        fs::read_dir(folder.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| in_link(&fd.path())))
    };
    // In our own namespace a mount marks everyone; `check` looks there itself.
    let namespace = |folder: &Path| fs::read_link(folder.join("ns/mnt")).ok();
    let own_mounts = namespace(folder) == namespace(Path::new("/proc/self"));
    in_file("cmdline")
        || in_file("environ")
        || in_link(&folder.join("cwd"))
        || in_link(&folder.join("exe"))
        || in_files()
        || (!own_mounts && in_file("mountinfo"))
}

fn holds(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark)
}

/// Fails with everything of the Husk at `root` that is still there.
///
/// # Errors
/// If something is left, or the machine cannot be looked at.
pub fn check(root: &Path, baseline: &Baseline) -> Result<()> {
    let mut left = Vec::new();
    let until = Instant::now() + pace::patience(RELEASE_DEADLINE);
    for process in processes(root)? {
        if !ended_within(process.pid, until.saturating_duration_since(Instant::now()))? {
            left.push(format!("process {}: {}", process.pid, process.command));
        }
    }
    let mark = root.to_string_lossy();
    for file in ["/proc/self/mountinfo", "/proc/net/unix"] {
        let text = fs::read(file)?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter(|line| line.contains(&*mark));
        left.extend(lines.map(|line| format!("in {file}: {line}")));
    }
    left.extend(files(root)?);
    let now = Baseline::take()?;
    let ours = |name: &&String| name.contains("husk") || name.starts_with("tap");
    left.extend(
        now.links.difference(&baseline.links).filter(ours).map(|name| format!("link {name}")),
    );
    // Each is named after the run directory of its microVM.
    let mark = mark.replace('/', "-");
    let cgroups = now.cgroups.difference(&baseline.cgroups).filter(|name| name.contains(&mark));
    left.extend(cgroups.map(|name| format!("cgroup {name}")));
    if !left.is_empty() {
        bail!("left behind:\n  {}", left.join("\n  "));
    }
    Ok(())
}

/// Files that no ended daemon without containers may keep.
fn files(root: &Path) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for path in walk(&root.join("tmp"))? {
        left.push(format!("temporary file {path}"));
    }
    for path in walk(&root.join("exec"))? {
        // Locks stay by design: removing one while another process waits for it breaks it. The
        // daemon's log and what it found out about KVM stay as well.
        const STAY: [&str; 4] = [".lock", ".start", ".log", "/probe.json"];
        if !STAY.iter().any(|end| path.ends_with(end)) {
            left.push(format!("run-time file {path}"));
        }
    }
    for path in walk(&root.join("data"))? {
        let name = path.rsplit('/').next().unwrap_or_default();
        let partial = name.contains("tmp") || name.contains("partial");
        if partial || path.contains("/ingest/") || path.contains("/containers/") {
            left.push(format!("half-written or orphaned file {path}"));
        }
    }
    Ok(left)
}

/// Paths of everything below `folder` that is not a folder.
///
/// # Errors
/// If a folder cannot be read.
pub fn walk(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(listing) = fs::read_dir(&folder) else { continue };
        for entry in listing {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

/// Ends whatever is left, so that one failed story does not disturb the next.
pub fn kill_all(root: &Path) {
    for process in processes(root).unwrap_or_default() {
        // It may have ended by itself meanwhile.
        let _ = kill_process(process.pid, Signal::KILL);
        let _ = ended_within(process.pid, RELEASE_DEADLINE);
    }
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let listing = fs::read_dir(folder).with_context(|| format!("failed to list {folder:?}"))?;
    Ok(listing.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Cgroups of the two upper levels and ours below: deep trees of others are not our concern.
fn cgroup_folders(folder: &Path, depth: usize, found: &mut BTreeSet<String>) {
    const DEPTH_MAX: usize = 4;
    let Ok(listing) = fs::read_dir(folder) else { return };
    for entry in listing.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path().to_string_lossy().into_owned());
            if depth < DEPTH_MAX {
                cgroup_folders(&entry.path(), depth + 1, found);
            }
        }
    }
}
