//! What goes wrong around a guest, and what is left of it: nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod harness;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use harness::{End, Guest, Setting, Vmm, means, next_event, send, spawn};
use husk_vmm_config::{Accelerator, Event, StopReason};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// A configuration whose emulator is a shell script.
fn scripted(script: &str) -> Setting {
    let mut setting = Setting::new(Path::new("/dev/null"), Path::new("/bin/false"));
    let kernel = setting.path("kernel");
    fs::write(&kernel, "none").unwrap();
    setting.replace_fd(0, File::open(&kernel).unwrap());
    let path = setting.path("emulator");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    setting.run_on(Accelerator::Software);
    setting.config.emulator = Some(path);
    setting
}

fn failure(end: &End) -> &str {
    assert_eq!(end.status.code(), Some(1));
    assert_eq!(end.stderr.lines().count(), 1, "{}", end.stderr);
    match &end.report {
        Event::Stopped { reason: StopReason::Accelerator { error }, .. } => error,
        Event::Stopped { reason: StopReason::Setup { error }, .. } => error,
        other => panic!("{other:?}"),
    }
}

fn send_signal(vmm: &Vmm, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(vmm.child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn an_emulator_that_dies_is_told_with_its_last_words() {
    let end = scripted("echo first >&2; echo 'no such machine' >&2; exit 3").start().wait();
    assert_eq!(failure(&end), "the emulator ended with exit status: 3: no such machine");
    let end = scripted("kill -9 $$").start().wait();
    assert!(failure(&end).contains("signal: 9"), "{}", end.stderr);
}

#[test]
fn an_emulator_that_floods_standard_error_is_bounded() {
    let script = "i=0; while [ $i -lt 3000 ]; do echo 'a line of no interest at all' >&2; \
                  i=$((i+1)); done; echo the end >&2; exit 1";
    assert!(failure(&scripted(script).start().wait()).ends_with(": the end"));
}

#[test]
fn an_emulator_that_never_calls_is_ended_after_ten_seconds() {
    let started = std::time::Instant::now();
    let end = scripted("echo thinking >&2; exec sleep 1000").start().wait();
    let expected = "the emulator did not call its devices within 10 s: thinking";
    assert_eq!(failure(&end), expected);
    assert!(started.elapsed().as_secs() >= 10);
}

#[test]
fn a_missing_emulator_says_what_to_install() {
    let mut setting = scripted("exit 0");
    setting.config.emulator = Some("/nonexistent/qemu".into());
    let end = setting.start().wait();
    assert!(failure(&end).contains("apt install qemu-system-x86"), "{}", end.stderr);
}

#[test]
fn the_kvm_accelerator_refuses_what_is_no_kernel() {
    if !Path::new("/dev/kvm").exists() {
        return eprintln!("SKIP: no /dev/kvm here");
    }
    let mut setting = scripted("exit 0");
    setting.run_on(Accelerator::Kvm);
    let end = setting.start().wait();
    assert!(failure(&end).starts_with("the kernel is no ELF file"), "{}", end.stderr);
}

#[test]
fn descriptors_of_the_wrong_kind_are_refused_by_name() {
    let mut setting = scripted("exit 0");
    setting.replace_fd(0, File::open("/dev/null").unwrap());
    assert!(failure(&setting.start().wait()).contains("(kernel) is not a regular file"));
    let mut setting = scripted("exit 0");
    let path = setting.path("disk");
    fs::write(&path, [0; 512]).unwrap();
    setting.add_disk("data", &[(&path, 512)], true);
    setting.config.disks[0].read_only = false;
    let end = setting.start().wait();
    assert!(failure(&end).contains("(disk segment) is not open for writing"), "{}", end.stderr);
}

#[test]
fn signals_end_an_emulator_that_would_not_end() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let vmm = scripted("trap '' TERM; exec sleep 1000").start();
        let mut control = vmm.control();
        assert!(matches!(next_event(&mut control), Event::Hello { .. }));
        send_signal(&vmm, signal);
        let end = vmm.wait();
        assert!(end.status.success() && end.stderr.is_empty(), "{}", end.stderr);
        assert!(matches!(end.report, Event::Stopped { reason: StopReason::Requested, .. }));
    }
}

#[test]
fn an_emulator_dies_with_a_vmm_that_was_killed() {
    let vmm = scripted("exec sleep 1000").start();
    let mut control = vmm.control();
    assert!(matches!(next_event(&mut control), Event::Hello { .. }));
    // The emulator is started right after that; it is there once the process inside has a child.
    let ended = |pid: u32| {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    };
    let begun = std::time::Instant::now();
    let all = loop {
        let all = harness::descendants(vmm.child.id());
        if all.len() == 2 {
            break all;
        }
        assert!(begun.elapsed() < harness::PATIENCE, "{all:?}");
        std::thread::yield_now();
    };
    let all: Vec<_> = all.into_iter().map(ended).collect();
    send_signal(&vmm, Signal::KILL);
    for process in all {
        let mut wanted = [PollFd::new(&process, PollFlags::IN)];
        let patience = Timespec::try_from(harness::PATIENCE).unwrap();
        assert_eq!(poll(&mut wanted, Some(&patience)).unwrap(), 1, "it has ended");
    }
}

/// What `husk-vmm run` says to those bytes on standard input.
fn said(act: impl FnOnce(&UnixStream)) -> String {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = spawn(theirs);
    act(&ours);
    drop(ours);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn a_handover_that_breaks_off_is_one_line() {
    assert!(said(|_| {}).contains("the configuration's header"));
    assert!(
        said(|mut socket| socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap())
            .contains("not with the mark of husk")
    );
    let header = |bytes: &[u8]| said(|mut socket| socket.write_all(bytes).unwrap());
    assert!(header(b"husk\x02\0\0\0\x05\0\0\0\0\0\0\0{").contains("the configuration's document"));
    assert!(header(b"husk\x02\0\0\0\xff\xff\xff\xff\0\0\0\0").contains("outside 1 to 1048576"));
    assert!(header(b"husk\x03\0\0\0\x01\0\0\0\0\0\0\0").contains("version 3"));
    assert!(header(b"husk\x02\0\0\0\x02\0\0\0\0\0\0\0{}").contains("missing field"));
    assert!(header(b"husk\x02\0\0\0\x02\0\0\0\x01\0\0\0{}\0").contains("a batch of 0"));
}

#[test]
fn a_configuration_against_the_limits_is_one_line() {
    let mut setting = scripted("exit 0");
    setting.config.vcpus = 99;
    let document = serde_json::to_vec(&setting.config).unwrap();
    let fds: Vec<OwnedFd> = (0..4).map(|_| File::open("/dev/null").unwrap().into()).collect();
    assert!(said(|socket| send(socket, &document, &fds)).contains("vcpus is 99, outside 1 to 32"));
}

#[test]
fn a_disk_of_a_thousand_segments_is_taken_over() {
    let mut setting = scripted("echo started >&2; exit 1");
    let path = setting.path("segment");
    fs::write(&path, [0; 512]).unwrap();
    let files = vec![(path.as_path(), 512); 1000];
    setting.add_disk("layers", &files, true);
    assert!(failure(&setting.start().wait()).ends_with(": started"));
}

#[test]
fn a_kernel_that_is_none_is_told() {
    let Some(means) = means() else { return };
    let mut setting = Setting::new(&means.kernel, &means.emulator);
    let path = setting.path("kernel");
    fs::write(&path, "no kernel at all").unwrap();
    setting.replace_fd(0, File::open(&path).unwrap());
    let end = setting.start().wait();
    let expected = match harness::accelerator() {
        Accelerator::Kvm => "the kernel is no ELF file: an uncompressed vmlinux is needed",
        Accelerator::Software => "the emulator ended with exit status: 1: ",
    };
    assert!(failure(&end).starts_with(expected), "{}", end.stderr);
}

#[test]
fn a_restarted_engine_hears_what_happened_before() {
    let Some(means) = means() else { return };
    let setting = Setting::bootable(&means);
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);
    for _ in 0..3 {
        let mut control = vmm.control();
        let Event::Hello { version, pid } = next_event(&mut control) else { panic!("no hello") };
        assert_eq!((version.as_str(), pid), (env!("CARGO_PKG_VERSION"), vmm.child.id()));
        let started = Event::Started { accelerator: harness::accelerator() };
        assert_eq!(next_event(&mut control), started);
    }
    guest.tell("reboot");
    assert!(vmm.wait().status.success());
}
