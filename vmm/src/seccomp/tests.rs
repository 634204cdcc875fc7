//! What each kind of thread does works; what it does not, is its end.

use std::collections::BTreeSet;
use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use husk_devices::virtio::block::Backend;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::Value;

use super::*;
use crate::poll::{Poll, Watch};
use crate::sys::random_bytes;

const KINDS: [ThreadKind; 4] =
    [ThreadKind::Supervisor, ThreadKind::Device, ThreadKind::Vcpu, ThreadKind::Parent];

/// Tells the test's own program what to do under a filter, and under which.
const ACT: &str = "HUSK_TEST_ACT";
const KIND: &str = "HUSK_TEST_KIND";
const DIRECTORY: &str = "HUSK_TEST_DIRECTORY";

/// Runs `act` of [`acts`] in a process of its own, on a thread of that kind.
fn act(kind: ThreadKind, act: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "seccomp::tests::acts", "--nocapture", "--test-threads=1"])
        .env(ACT, act)
        .env(KIND, kind.name())
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap()
}

/// Not a test of its own: what the others run in a process of its own.
#[test]
fn acts() {
    let (Ok(act), Ok(kind)) = (env::var(ACT), env::var(KIND)) else { return };
    crate::abort_on_panic();
    let kind = KINDS.into_iter().find(|known| known.name() == kind).unwrap();
    let setting = Setting::new();
    let thread = std::thread::Builder::new().name("acting".into());
    let thread = thread.spawn(move || {
        install(kind).unwrap();
        setting.act(&act);
    });
    thread.unwrap().join().unwrap();
}

/// What exists before a filter is installed.
struct Setting {
    streams: (UnixStream, UnixStream),
    poll: Arc<Poll>,
    directory: PathBuf,
    file: File,
    listener: UnixListener,
}

impl Setting {
    fn new() -> Self {
        let directory = env::var_os(DIRECTORY).map(PathBuf::from).unwrap();
        let mut options = File::options();
        options.create_new(true).read(true).write(true);
        let file = options.open(directory.join("disk")).unwrap();
        let listener = UnixListener::bind(directory.join("listener")).unwrap();
        let poll = Arc::new(Poll::new().unwrap());
        Self { streams: UnixStream::pair().unwrap(), poll, directory, file, listener }
    }

    fn act(self, act: &str) {
        match act {
            "work" => self.work(),
            "streams" => self.streams(),
            "disk" => self.disk(),
            "panic" => panic!("on purpose"),
            "openat" => drop(File::open("/dev/null")),
            "execve" => sys::run_program(),
            "inet" => drop(rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)),
            "thread" => drop(std::thread::spawn(|| ())),
            "code" => sys::map_code(),
            "ptrace" => sys::trace_me(),
            other => unreachable!("{other}"),
        }
    }

    /// What every thread does: memory, channels, locks, and its own end.
    fn work(self) {
        let mut memory = Vec::new();
        for length in [100, 10_000, 1 << 20, 8 << 20, 64 << 20] {
            memory.resize(length, 7_u8);
        }
        memory.truncate(10);
        memory.shrink_to_fit();
        let (sender, receiver) = channel();
        sender.send(memory).unwrap();
        assert_eq!(receiver.recv().unwrap(), [7; 10]);
        assert!(receiver.recv_timeout(Duration::from_millis(5)).is_err());
        rustix::io::write(&self.streams.0, b"hello").unwrap();
        assert_eq!(rustix::io::read(&self.streams.1, &mut [0; 9]).unwrap(), 5);
        std::thread::yield_now();
        std::io::stderr().write_all(b"worked\n").unwrap();
    }

    /// What the threads with an event loop do.
    fn streams(mut self) {
        self.poll.add(&self.streams.1, 7, Watch::Readable).unwrap();
        self.streams.0.write_all(b"hello").unwrap();
        let mut events = Vec::new();
        for timeout in [None, Some(Duration::ZERO), Some(Duration::from_micros(700))] {
            self.poll.wait(&mut events, timeout).unwrap();
            assert_eq!(events[0].0, 7);
        }
        self.streams.0.set_nonblocking(true).unwrap();
        self.poll.remove(&self.streams.1).unwrap();
        random_bytes(&mut [0; 64]).unwrap();
    }

    /// What a device thread does besides.
    fn disk(self) {
        let mut disk = crate::backend::DiskFile(self.file);
        disk.write_zeros(0, 1 << 20).unwrap();
        disk.punch_hole(0, 4096).unwrap();
        disk.sync().unwrap();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(self.directory.join("listener")).unwrap()).unwrap();
        set_socket_send_buffer_size(&socket, 4096).unwrap();
        let (mut accepted, _) = self.listener.accept().unwrap();
        let mut stream = UnixStream::from(socket);
        stream.write_all(b"hello").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        accepted.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
    }
}

#[test]
fn the_work_of_each_kind_passes() {
    for kind in [ThreadKind::Supervisor, ThreadKind::Device, ThreadKind::Vcpu] {
        let output = act(kind, "work");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains("worked"), "{kind:?}: {told}");
    }
    for kind in [ThreadKind::Supervisor, ThreadKind::Device] {
        let output = act(kind, "streams");
        assert!(output.status.success(), "{kind:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = act(ThreadKind::Device, "disk");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_panic_under_a_filter_is_told_as_one() {
    for kind in [ThreadKind::Supervisor, ThreadKind::Device, ThreadKind::Vcpu] {
        let output = act(kind, "panic");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.starts_with("husk-vmm: thread acting panicked at "), "{kind:?}: {told}");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{kind:?}");
    }
}

#[test]
fn what_no_kind_does_is_its_end_in_one_line() {
    for (name, number) in [
        ("openat", libc::SYS_openat),
        ("execve", libc::SYS_execve),
        ("inet", libc::SYS_socket),
        ("ptrace", libc::SYS_ptrace),
        ("code", libc::SYS_mmap),
    ] {
        for kind in KINDS {
            let output = act(kind, name);
            let expected = format!(
                "husk-vmm: the {} thread was killed by its system call filter: system call {number}\n",
                kind.name()
            );
            assert_eq!(String::from_utf8_lossy(&output.stderr), expected, "{name}");
            assert_eq!(output.status.code(), Some(sys::ABORTED), "{name} {kind:?}");
        }
    }
    // Around a clone the C library blocks all signals: then there is no handler, but the same end.
    for kind in [ThreadKind::Device, ThreadKind::Vcpu, ThreadKind::Supervisor] {
        assert_eq!(act(kind, "thread").status.signal(), Some(libc::SIGSYS), "{kind:?}");
    }
}

fn listed() -> Vec<(String, Vec<Value>)> {
    let text = include_str!("x86_64.json");
    let Value::Object(filters) = serde_json::from_str(text).unwrap() else { panic!("a map") };
    let rules = |filter: Value| filter["filter"].as_array().unwrap().clone();
    filters.into_iter().map(|(name, filter)| (name, rules(filter))).collect()
}

#[test]
fn the_lists_are_short_and_sorted_and_each_entry_has_its_reason() {
    let limits = [("vcpu", 30), ("device", 50), ("supervisor", 50), ("parent", 10)];
    for (name, rules) in listed() {
        let names: Vec<_> = rules.iter().map(|rule| rule["syscall"].as_str().unwrap()).collect();
        assert!(names.is_sorted(), "{name}");
        let calls: BTreeSet<_> = names.iter().collect();
        let limit = limits.iter().find(|(known, _)| *known == name).unwrap().1;
        assert!(calls.len() <= limit, "{name} has {} calls", calls.len());
        for rule in &rules {
            let conditions = rule["args"].as_array().cloned().unwrap_or_default();
            for entry in conditions.iter().chain([rule]) {
                let reason = entry["comment"].as_str().unwrap_or_default();
                assert!(reason.len() >= 4, "{name}: {entry} without a reason");
            }
        }
    }
}

#[test]
fn what_can_leave_the_jail_is_bound_to_arguments() {
    const BOUND: [&str; 8] =
        ["ioctl", "socket", "mmap", "mprotect", "tgkill", "kill", "fcntl", "rt_sigaction"];
    for (name, rules) in listed() {
        for rule in rules {
            let call = rule["syscall"].as_str().unwrap();
            assert!(!BOUND.contains(&call) || rule["args"].is_array(), "{name}: {call}");
            assert!(!call.starts_with("clone") && !call.starts_with("open"), "{name}: {call}");
        }
    }
}
