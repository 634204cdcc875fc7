//! What the host sees of a VMM in its jail, and of the emulator beside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "figures are printed")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use harness::{Guest, Means, PATIENCE, Setting, Vmm, accelerator, descendants, means};
use husk_vmm_config::{Accelerator, Command, Event, JAIL_UID, Statistics, step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// A guest that runs, and the processes around it.
struct Running {
    vmm: Vmm,
    guest: Guest,
    inside: u32,
    /// The software accelerator has one.
    emulator: Option<u32>,
}

fn running(means: &Means) -> Running {
    let setting = Setting::bootable(means);
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let guest = Guest::accept(&listener);
    let (inside, emulator) = match descendants(vmm.child.id())[..] {
        [inside] => (inside, None),
        [inside, emulator] => (inside, Some(emulator)),
        ref other => panic!("one process or two: {other:?}"),
    };
    assert_eq!(emulator.is_some(), accelerator() == Accelerator::Software);
    Running { vmm, guest, inside, emulator }
}

fn proc(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

/// `/proc/<pid>/status` of a thread or process.
fn status(path: &std::path::Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn threads(pid: u32) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(proc(pid, "task")).unwrap();
    tasks.map(|task| status(&task.unwrap().path().join("status"))).collect()
}

fn assert_powerless(pid: u32) {
    let threads = threads(pid);
    for thread in &threads {
        let name = &thread["Name"];
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(thread[set], "0000000000000000", "{name} {set}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "{name}");
        assert_eq!(thread["Seccomp"], "2", "{name}");
        let uid = rustix::process::geteuid();
        let expected = if uid.is_root() { JAIL_UID } else { uid.as_raw() };
        assert_eq!(thread["Uid"], [expected.to_string().as_str(); 4].join("\t"), "{name}");
        assert!(rustix::process::geteuid().as_raw() != 0 || thread["Groups"].is_empty(), "{name}");
    }
}

#[test]
fn a_vmm_and_its_emulator_have_no_power_over_the_host() {
    let Some(means) = means() else { return };
    let mut running = running(&means);
    let outer = running.vmm.child.id();
    for pid in [Some(outer), Some(running.inside), running.emulator].into_iter().flatten() {
        assert_powerless(pid);
        let limits = fs::read_to_string(proc(pid, "limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    for pid in [Some(running.inside), running.emulator].into_iter().flatten() {
        for kind in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
            let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            assert_ne!(namespace(&pid.to_string()), namespace("self"), "{kind}");
        }
    }
    // It still works as it did.
    assert_eq!(running.guest.ask("print hello"), "ok");
}

/// What is mounted: where, with which options.
fn mounts(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(proc(pid, "mountinfo")).unwrap();
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.map(|fields| (fields[4].to_owned(), fields[5].to_owned())).collect()
}

#[test]
fn nothing_of_the_host_can_be_reached_by_path() {
    let Some(means) = means() else { return };
    let running = running(&means);
    let names = |pid| -> BTreeSet<String> {
        let listing = fs::read_dir(proc(pid, "root")).unwrap();
        listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(running.inside), BTreeSet::from(["vsock".to_owned()]));
    let mounted = mounts(running.inside);
    assert_eq!(mounted.keys().collect::<Vec<_>>(), ["/", "/vsock"]);
    for options in mounted.values() {
        assert!(options.starts_with("ro,nosuid,nodev"), "{options}");
    }

    assert_eq!(fs::read_link(proc(running.inside, "cwd")).unwrap().as_os_str(), "/");
    let Some(emulator) = running.emulator else { return };
    let names = names(emulator);
    for absent in ["dev", "home", "root", "run", "sys", "tmp", "var", "vsock"] {
        assert!(!names.contains(absent), "{names:?}");
    }
    let etc: Vec<_> = fs::read_dir(proc(emulator, "root/etc")).into_iter().flatten().collect();
    assert!(etc.len() <= 1, "{etc:?}");
    for (place, options) in mounts(emulator) {
        assert!(options.starts_with("ro,nosuid,nodev"), "{place}: {options}");
    }
    assert_eq!(fs::read_link(proc(emulator, "cwd")).unwrap().as_os_str(), "/");
}

/// What the open descriptors are, without numbers.
fn descriptors(pid: u32) -> Vec<String> {
    let listing = fs::read_dir(proc(pid, "fd")).unwrap();
    let targets = listing.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    let mut kinds: Vec<_> = targets
        .map(|target| {
            let target = target.to_string_lossy().into_owned();
            target.split(":[").next().unwrap_or_default().to_owned()
        })
        .collect();
    kinds.sort();
    kinds
}

#[test]
fn only_the_descriptors_that_are_needed_are_open() {
    let Some(means) = means() else { return };
    // Ours, not close-on-exec: it must not get through.
    let leak = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let running = running(&means);
    let directory = running.vmm.directory.path().to_string_lossy().into_owned();
    // Ours, which it inherits for want of an engine.
    let ours = [1, 2].map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap());
    let expected = |target: &String| {
        const KINDS: [&str; 13] = [
            "anon_inode:kvm-vm",
            "anon_inode:kvm-vcpu",
            "socket",
            "pipe",
            "/dev/null",
            // The same, as seen from where it is not mounted.
            "/null",
            "anon_inode",
            "anon_inode:[eventfd]",
            "anon_inode:[eventpoll]",
            "anon_inode:[pidfd]",
            "anon_inode:[signalfd]",
            "/memfd:memory-backend-memfd (deleted)",
            "pidfd",
        ];
        KINDS.contains(&target.as_str())
            || target.starts_with("anon_inode:kvm-vcpu:")
            || target.starts_with(&directory)
            || ours.iter().any(|our| our == std::path::Path::new(target))
            // Counts the guest's pages.
            || target.ends_with("/smaps")
            || target.ends_with("/kvm")
    };
    for pid in [running.vmm.child.id(), running.inside] {
        let open = descriptors(pid);
        let strange: Vec<_> = open.iter().filter(|target| !expected(target)).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }
    let parent = descriptors(running.vmm.child.id());
    assert!(parent.len() <= 5, "standard streams, two processes: {parent:?}");
    let kernel = means.kernel.canonicalize().unwrap().to_string_lossy().into_owned();
    let Some(emulator) = running.emulator.map(descriptors) else { return };
    let strange: Vec<_> = emulator
        .iter()
        .filter(|target| !expected(target) && **target != kernel && !target.starts_with("/memfd:"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(!emulator.iter().any(|target| target.starts_with(&directory)), "{emulator:?}");
}

#[test]
fn a_killed_vmm_leaves_no_process() {
    let Some(means) = means() else { return };
    let running = running(&means);
    let inner = [Some(running.inside), running.emulator].into_iter().flatten();
    let watched: Vec<_> = inner
        .map(|pid| {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            pidfd_open(pid, PidfdFlags::empty()).unwrap()
        })
        .collect();
    let outer = Pid::from_raw(i32::try_from(running.vmm.child.id()).unwrap()).unwrap();
    kill_process(outer, Signal::KILL).unwrap();
    for process in &watched {
        let mut ended = [PollFd::new(process, PollFlags::IN)];
        let patience = Timespec::try_from(PATIENCE).unwrap();
        assert_eq!(poll(&mut ended, Some(&patience)).unwrap(), 1);
    }
}

#[test]
fn the_process_that_the_engine_knows_ends_as_the_one_inside() {
    let Some(means) = means() else { return };
    let mut running = running(&means);
    let inside = Pid::from_raw(i32::try_from(running.inside).unwrap()).unwrap();
    kill_process(inside, Signal::KILL).unwrap();
    let status = running.vmm.child.wait().unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
}

/// Private memory in KiB: nobody else has it. What parent and child still share is theirs alone.
fn private_kib(pid: u32) -> BTreeMap<&'static str, u64> {
    let text = fs::read_to_string(proc(pid, "smaps_rollup")).unwrap();
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    BTreeMap::from([
        ("private_clean", field("Private_Clean:")),
        ("private_dirty", field("Private_Dirty:")),
        ("pss_anon", field("Pss_Anon:")),
        ("pss", field("Pss:")),
    ])
}

#[test]
fn the_jail_costs_little() {
    let Some(means) = means() else { return };
    let running = running(&means);
    let mut control = running.vmm.control();
    let line = serde_json::to_string(&Command::Statistics).unwrap() + "\n";
    std::io::Write::write_all(control.get_mut(), line.as_bytes()).unwrap();
    let Statistics { steps, memory, .. } = loop {
        if let Event::Statistics(statistics) = harness::next_event(&mut control) {
            break statistics;
        }
    };
    let steps: Vec<_> = steps.iter().map(|step| format!("{} {} us", step.name, step.us)).collect();
    eprintln!("steps: {}", steps.join(", "));
    assert!(steps.iter().any(|known| known.starts_with(step::JAILED)));
    let mut sum = 0;
    for (name, pid) in [("parent", running.vmm.child.id()), ("inside", running.inside)] {
        let private = private_kib(pid);
        eprintln!("{name}: {private:?} KiB");
        sum += private["pss_anon"].max(private["private_dirty"]);
    }
    // On KVM the guest's memory is the process's, and not its own.
    let own = sum.saturating_sub(memory.dirty >> 10);
    assert!(own <= 5 << 10, "own memory is {own} KiB");
}
