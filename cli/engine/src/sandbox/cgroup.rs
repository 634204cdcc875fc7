//! The cgroup of a microVM: what its processes on the host may use, whatever becomes of them.
//!
//! One group for each microVM, named after its run directory, so that a later daemon finds it without
//! a record. It lies directly in the root of the hierarchies, of version 1 or 2, as they are mounted;
//! with version 2, for a daemon without root, beside the daemon's own group where its part of the tree
//! was delegated to it. Where there is none to be had the microVM goes without.
//!
//! These are limits of the host against a VMM that was taken over, wide enough never to be felt: the
//! container's own limits are kept inside the guest.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use husk_vmm_config::Accelerator;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

use crate::limits::STOP_DEADLINE;

/// The controllers that are used.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The scheduler's period in microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

/// How long between two attempts to remove a group whose last process is just leaving.
const PAUSE: Duration = Duration::from_millis(1);

/// What a microVM's processes may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CgroupLimits {
    /// Processes and threads together.
    tasks: u64,
    /// Bytes of memory, guest memory and page cache included.
    memory: u64,
    /// Processors.
    cpus: u64,
}

impl CgroupLimits {
    /// The guest's share as configured, and what the VMM or the emulator needs beside it.
    pub(crate) fn new(accelerator: Accelerator, vcpus: u8, memory_mib: u32) -> Self {
        let guest = u64::from(memory_mib) << 20;
        // Page tables of the host, for each process that maps guest memory, and of the guest.
        let tables = guest / 128;
        let (tasks, overhead) = match accelerator {
            // Parent, main thread, device threads, the kernel's own workers.
            Accelerator::Kvm => (16, 64 << 20),
            // And an emulator with its threads, heap, and at most 256 MiB of translated code.
            Accelerator::Software => (64, 512 << 20),
        };
        let vcpus = u64::from(vcpus);
        // One processor more than the guest has: its devices work for it as well.
        Self { tasks: vcpus + tasks, memory: guest + tables + overhead, cpus: vcpus + 1 }
    }
}

/// The group of one run directory, there or not.
#[derive(Debug)]
pub(crate) struct Cgroup {
    places: Vec<Place>,
}

/// One directory of it: in version 1 there is one for each hierarchy.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    is_unified: bool,
}

impl Cgroup {
    /// The group for a run directory.
    pub(crate) fn of(run_dir: &Path) -> Self {
        let name = format!("husk{}", run_dir.to_string_lossy().replace('/', "-"));
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let parents =
            parents(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), geteuid().is_root());
        let place =
            |(path, is_unified): (PathBuf, bool)| Place { path: path.join(&name), is_unified };
        Self { places: parents.into_iter().map(place).collect() }
    }

    /// Makes it, sets its limits and puts the process into it. What is not permitted here is left out.
    ///
    /// # Errors
    /// If the process cannot be moved where there is a group for it.
    pub(crate) fn hold(&self, pid: u32, limits: CgroupLimits) -> io::Result<()> {
        for place in &self.places {
            if !place.make() {
                continue;
            }
            place.limit(limits);
            if let Err(error) = fs::write(place.path.join("cgroup.procs"), pid.to_string()) {
                // It has ended, perhaps, and what it left was cleared before this was made.
                self.clear()?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends whatever is still in it and removes it. Blocks until nothing of it is left.
    ///
    /// # Errors
    /// If it is still there after a while.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let until = Instant::now() + STOP_DEADLINE;
        self.places.iter().try_for_each(|place| place.clear(until))
    }
}

impl Place {
    fn make(&self) -> bool {
        if self.is_unified {
            let parent = self.path.parent().unwrap_or(Path::new("/"));
            let there = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
            // With those of version 1 mounted, version 2 has none of them.
            if !there.split_whitespace().any(|name| CONTROLLERS.contains(&name)) {
                return false;
            }
            for controller in CONTROLLERS {
                // It is on already, or is not ours to turn on.
                let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        match fs::create_dir(&self.path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
            Err(error) => {
                tracing::debug!(%error, path = %self.path.display(), "no cgroup");
                false
            }
        }
    }

    fn limit(&self, limits: CgroupLimits) {
        let CgroupLimits { tasks, memory, cpus } = limits;
        let quota = cpus * CPU_PERIOD_US;
        let files = if self.is_unified {
            vec![
                ("pids.max", tasks.to_string()),
                ("memory.max", memory.to_string()),
                ("cpu.max", format!("{quota} {CPU_PERIOD_US}")),
            ]
        } else {
            vec![
                ("pids.max", tasks.to_string()),
                ("memory.limit_in_bytes", memory.to_string()),
                ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ]
        };
        for (file, value) in files {
            let path = self.path.join(file);
            // The hierarchy has not this controller, or the kernel not this limit.
            if path.exists()
                && let Err(error) = fs::write(&path, value)
            {
                tracing::warn!(%error, path = %path.display(), "failed to limit a microVM");
            }
        }
    }

    fn clear(&self, until: Instant) -> io::Result<()> {
        loop {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => return other,
            }
            if Instant::now() >= until {
                return Err(io::Error::other("its processes do not end"));
            }
            let processes = self.end_processes()?;
            if processes.is_empty() {
                // The last one has ended, but not left yet, of which the kernel tells nobody.
                std::thread::sleep(PAUSE);
            }
            for process in processes {
                wait(&process, until)?;
            }
        }
    }

    fn end_processes(&self) -> io::Result<Vec<OwnedFd>> {
        let listed = fs::read_to_string(self.path.join("cgroup.procs"))?;
        let mut ended = Vec::new();
        for pid in listed.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
            // It has ended meanwhile: then its number is nobody's.
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            // That number could be somebody else's by now.
            let still = fs::read_to_string(self.path.join("cgroup.procs"))?;
            let number = pid.to_string();
            if still.lines().any(|line| line == number) {
                // It fails only where it has ended.
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                ended.push(pidfd);
            }
        }
        Ok(ended)
    }
}

fn wait(process: &OwnedFd, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)).map(|_| ())?)
}

/// The directories in which a group may be made, and whether each is of version 2, from the texts of
/// `/proc/self/mountinfo` and `/proc/self/cgroup`: proc(5), cgroups(7).
fn parents(mounts: &str, own: &str, is_root: bool) -> Vec<(PathBuf, bool)> {
    let mut parents: Vec<(PathBuf, bool)> = Vec::new();
    for line in mounts.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4) else { continue };
        let mut fields = file_system.split(' ');
        let (kind, options) = (fields.next(), fields.nth(1).unwrap_or_default());
        let place = match kind {
            Some("cgroup2") if is_root => Some((PathBuf::from(point), true)),
            Some("cgroup2") => delegated(point, own).map(|path| (path, true)),
            Some("cgroup") if is_root => {
                let mut controllers = options.split(',');
                controllers
                    .any(|name| CONTROLLERS.contains(&name))
                    .then(|| (PathBuf::from(point), false))
            }
            _ => None,
        };
        parents.extend(place.filter(|place| !parents.contains(place)));
    }
    parents
}

/// The group around the daemon's own, in which a user may have been given the right to make others.
fn delegated(point: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let parent = Path::new(path).parent()?;
    Some(Path::new(point).join(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(mounts: &str, own: &str, is_root: bool) -> Vec<String> {
        let parents = parents(mounts, own, is_root).into_iter();
        parents.map(|(path, is_unified)| format!("{} {is_unified}", path.display())).collect()
    }

    #[test]
    fn each_hierarchy_with_a_controller_of_ours_is_used() {
        let expected = [
            "/sys/fs/cgroup/cpu false",
            "/sys/fs/cgroup/memory false",
            "/sys/fs/cgroup/unified true",
            "/sys/fs/cgroup/pids false",
        ];
        assert_eq!(found(HYBRID, "", true), expected);
        assert_eq!(found(UNIFIED, "0::/system.slice/husk.service", true), ["/sys/fs/cgroup true"]);
        assert!(found("", "", true).is_empty());
    }

    #[test]
    fn without_root_it_lies_beside_the_daemons_own() {
        let own = "0::/user.slice/user@1000.service/app.slice/husk.service\n";
        let expected = ["/sys/fs/cgroup/user.slice/user@1000.service/app.slice true"];
        assert_eq!(found(UNIFIED, own, false), expected);
        assert!(found(HYBRID, "4:memory:/x\n", false).is_empty());
    }

    #[test]
    fn limits_follow_the_guest() {
        let kvm = CgroupLimits::new(Accelerator::Kvm, 2, 1024);
        assert_eq!(kvm, CgroupLimits { tasks: 18, memory: (1024 + 8 + 64) << 20, cpus: 3 });
        let software = CgroupLimits::new(Accelerator::Software, 2, 1024);
        assert_eq!(software, CgroupLimits { tasks: 66, memory: (1024 + 8 + 512) << 20, cpus: 3 });
    }

    #[test]
    fn a_process_that_has_ended_leaves_no_group() {
        let run_dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::of(run_dir.path());
        let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
        ended.wait().unwrap();
        let limits = CgroupLimits { tasks: 1, memory: 1 << 20, cpus: 1 };
        let held = cgroup.hold(ended.id(), limits);
        assert!(held.is_err() || !geteuid().is_root() || cgroup.places.is_empty());
        assert!(cgroup.places.iter().all(|place| !place.path.exists()));
    }

    #[test]
    fn what_cannot_be_made_is_left_out() {
        let nowhere = Place { path: "/nonexistent/parent/husk-x".into(), is_unified: false };
        let cgroup = Cgroup { places: vec![nowhere] };
        let limits = CgroupLimits { tasks: 1, memory: 1, cpus: 1 };
        cgroup.hold(std::process::id(), limits).unwrap();
        cgroup.clear().unwrap();
    }

    #[test]
    fn a_group_holds_a_process_and_its_children_until_it_is_cleared() {
        if !geteuid().is_root() {
            return;
        }
        let run_dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::of(run_dir.path());
        // Waits for a line, so that its child is started inside.
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", "read x; sleep 1000 & echo started; wait"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let limits = CgroupLimits { tasks: 16, memory: 64 << 20, cpus: 2 };
        let begun = Instant::now();
        cgroup.hold(shell.id(), limits).unwrap();
        tracing::info!(elapsed = ?begun.elapsed(), "held");
        std::io::Write::write_all(shell.stdin.as_mut().unwrap(), b"go\n").unwrap();
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut [0; 8]).unwrap();
        let pids = cgroup.places.iter().find(|place| place.path.join("pids.max").exists());
        if let Some(place) = pids {
            let read = |file| fs::read_to_string(place.path.join(file)).unwrap();
            assert_eq!(read("pids.max"), "16\n");
            assert_eq!(read("cgroup.procs").lines().count(), 2);
        }
        cgroup.clear().unwrap();
        assert!(cgroup.places.iter().all(|place| !place.path.exists()));
        // Where there was no group at all, it still runs.
        let _ = shell.kill();
        shell.wait().unwrap();
        cgroup.clear().unwrap();
    }
}
