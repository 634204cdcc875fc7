//! Entering and closing a jail, in processes of their own.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Write, stderr};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::Instant;

use husk_vmm_config::{Accelerator, FdIndex, Vsock};

use super::*;
use crate::sys::ABORTED;

/// Tells the test's own program what to do in a jail, and with which directory.
const ACT: &str = "HUSK_TEST_JAIL";
const DIRECTORY: &str = "HUSK_TEST_DIRECTORY";

/// Runs `act` of [`acts`] in a jail whose directory has one socket that takes connections.
fn act(act: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("guest-7.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "jail::tests::acts", "--nocapture", "--test-threads=1"])
        .env(ACT, act)
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(super) fn configuration(directory: &Path) -> VmConfig {
    VmConfig {
        id: "one".into(),
        accelerator: Accelerator::Kvm,
        vcpus: 1,
        memory_mib: 128,
        kernel: FdIndex(0),
        cmdline: Vec::new(),
        disks: Vec::new(),
        vsock: Vsock { guest_cid: 3, listener: FdIndex(1), directory: directory.to_owned() },
        control: FdIndex(2),
        report: FdIndex(3),
        emulator: None,
        kvm: None,
        nets: Vec::new(),
        pmems: Vec::new(),
        balloon: None,
    }
}

/// Not a test of its own: what the others run in a process of its own.
#[test]
fn acts() {
    let (Ok(act), Ok(directory)) = (env::var(ACT), env::var(DIRECTORY)) else { return };
    crate::abort_on_panic();
    let begun = Instant::now();
    let timeline = Arc::new(Timeline::new());
    let mut jail = enter(&timeline).unwrap_or_else(|error| {
        let source = error.source().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(stderr(), "refused: {error}: {source}");
        exit_now(3);
    });
    let entered = begun.elapsed();
    let mut config = configuration(Path::new(&directory));
    jail.fit(&mut config);
    let begun = Instant::now();
    jail.close().unwrap();
    let closed = begun.elapsed();
    match act.as_str() {
        "time" => {
            let _ = writeln!(stderr(), "{} {}", entered.as_micros(), closed.as_micros());
        }
        "reach" => reach(&config.vsock.directory),
        "status" => exit_now(42),
        "abort" => panic!("on purpose"),
        other => unreachable!("{other}"),
    }
    exit_now(0);
}

fn reach(directory: &Path) {
    UnixStream::connect(directory.join("guest-7.sock")).unwrap();
    for path in ["/etc/passwd", "/proc/self/status", "/dev/null", "/vsock"] {
        assert!(File::open(path).is_err(), "{path}");
    }
    assert!(File::create("/file").is_err() && fs::create_dir("/vsock/folder").is_err());
    assert!(TcpListener::bind("127.0.0.1:0").is_err());
    let foreign = SocketAddr::from_abstract_name("husk-nobody").unwrap();
    assert!(UnixStream::connect_addr(&foreign).is_err());
    assert!(Command::new("/bin/true").status().is_err());
}

#[test]
fn one_socket_can_be_reached_and_no_file() {
    let output = act("reach");
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn the_status_of_the_one_inside_is_the_status_of_the_parent() {
    assert_eq!(act("status").status.code(), Some(42));
    let aborted = act("abort");
    assert!(told(&aborted).contains("on purpose"), "{}", told(&aborted));
    // The test's process has other threads: its own signal may come after it has ended by itself.
    let status = aborted.status;
    assert!(status.signal() == Some(libc::SIGABRT) || status.code() == Some(ABORTED), "{status}");
}

#[test]
fn a_jail_takes_milliseconds() {
    const ROUNDS: usize = 15;
    let mut times: Vec<(u64, u64)> = (0..ROUNDS)
        .map(|_| {
            let output = act("time");
            let told = told(&output);
            let mut numbers = told.split_whitespace().map(|number| number.parse().unwrap());
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
        .collect();
    times.sort_unstable_by_key(|(entered, closed)| entered + closed);
    let (entered, closed) = times[ROUNDS / 2];
    let _ = writeln!(stderr(), "jail entered in {entered} us, closed in {closed} us (median)");
    assert!(entered + closed < 200_000, "{times:?}");
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    let source = || io::Error::from(io::ErrorKind::PermissionDenied);
    let error = JailError::Namespaces { reason: source() }.to_string();
    assert!(error.starts_with("failed to make namespaces for the jail (permission denied): "));
    assert!(error.contains("HUSK_JAIL=best-effort"), "{error}");
    let path = JailError::Path { path: "/run/x".into(), source: source() };
    assert_eq!(path.to_string(), "failed to bring /run/x into the jail");
}
