//! A real guest on the software accelerator, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::cast_possible_truncation, reason = "patterns are cut to bytes")]

mod harness;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::thread;

use harness::{Guest, PATIENCE, Setting, is_slow, means, next_event};
use husk_vmm_config::{Event, StopReason};
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that the guest sends.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|place| (place % (64 << 10) % 251) as u8).collect()
}

/// Bytes of which no two sectors are alike.
fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|place| seed.wrapping_add((place / 512 + place) as u8)).collect()
}

#[test]
fn a_disk_of_many_segments_reads_as_one_and_refuses_writes() {
    let Some(means) = means() else { return };
    let mut setting = Setting::bootable(&means);
    let mut expected = Vec::new();
    let mut files = Vec::new();
    for index in 0..40_u8 {
        let path = setting.path(&format!("segment-{index}"));
        let length = 512 * (1 + usize::from(index) * 7 % 23);
        let bytes = content(index, length);
        // Every third file ends early: the rest of its segment reads as zeros.
        let kept = if index % 3 == 0 { length - 300 } else { length };
        fs::write(&path, &bytes[..kept]).unwrap();
        expected.extend_from_slice(&bytes[..kept]);
        expected.resize(expected.len() + length - kept, 0);
        files.push((path, length as u64));
    }
    let files: Vec<_> = files.iter().map(|(path, length)| (path.as_path(), *length)).collect();
    setting.add_disk("layers", &files, true);
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);

    let sectors = expected.len() / 512;
    let disks = guest.ask("disks");
    assert!(disks.starts_with("vda:system:1:"), "{disks}");
    assert!(disks.ends_with(&format!(" vdb:layers:1:{sectors}")), "{disks}");
    assert_eq!(guest.ask("hash vdb"), sha256(&expected));
    assert!(guest.ask("write vdb 0 1 512").starts_with("error "));
    assert!(guest.ask("discard vdb 0 4096").starts_with("error "));

    guest.tell("reboot");
    let end = vmm.wait();
    assert!(end.status.success() && end.stderr.is_empty(), "{}", end.stderr);
    assert!(matches!(end.report, Event::Stopped { reason: StopReason::Guest, .. }));
}

#[test]
fn a_writable_disk_keeps_writes_and_gives_discarded_space_back() {
    let Some(means) = means() else { return };
    let mut setting = Setting::bootable(&means);
    let path = setting.path("data");
    let length = 4 << 20;
    File::create(&path).unwrap().set_len(length).unwrap();
    setting.add_disk("data", &[(&path, length)], false);
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);
    let file = File::open(&path).unwrap();
    let at = |offset, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    };

    assert_eq!(guest.ask("write vdb 1048576 7 1048576"), "ok");
    assert_eq!(at(1 << 20, 1 << 20), vec![7; 1 << 20]);
    let full = file.metadata().unwrap().blocks();
    assert_eq!(guest.ask("discard vdb 1048576 524288"), "ok");
    assert_eq!(at(1 << 20, 1 << 19), vec![0; 1 << 19]);
    assert!(file.metadata().unwrap().blocks() <= full - 1000, "space comes back");
    assert_eq!(guest.ask("zero vdb 1572864 4096"), "ok");
    assert_eq!(at(1_572_864, 8192), [vec![0; 4096], vec![7; 4096]].concat());
    assert_eq!(guest.ask("read vdb 1572864 8192"), sha256(&at(1_572_864, 8192)));
    assert!(guest.ask("write vdb 4194304 1 512").starts_with("error "), "behind the end");
    assert_ne!(guest.ask("entropy"), guest.ask("entropy"));
    drop(vmm);
}

#[test]
fn streams_carry_megabytes_in_both_directions_and_close_by_halves() {
    let Some(means) = means() else { return };
    let setting = Setting::bootable(&means);
    let listener = Guest::listener(&setting);
    let echo = UnixListener::bind(setting.path("guest-7.sock")).unwrap();
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);
    let length: usize = if is_slow() { 4 << 20 } else { 50 << 20 };

    // The host calls: the guest echoes.
    assert_eq!(guest.ask("listen 5000"), "ok");
    let mut stream = vmm.dial(5000);
    let mut sender = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        sender.write_all(&pattern(length)).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let started = std::time::Instant::now();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    eprintln!("{length} bytes there and back, called by the host: {:?}", started.elapsed());
    assert!(received == pattern(length), "{} bytes", received.len());

    // The guest calls: the host echoes.
    let server = thread::spawn(move || {
        let (mut stream, _) = echo.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut sink = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut sink).unwrap();
        sink.shutdown(Shutdown::Write).unwrap();
        let (mut stream, _) = echo.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let started = std::time::Instant::now();
    assert_eq!(guest.ask(&format!("dial 7 {length}")), sha256(&pattern(length)));
    eprintln!("{length} bytes there and back, called by the guest: {:?}", started.elapsed());

    // What the guest sent before it closed arrives, all of it.
    assert_eq!(guest.ask("send 7 3000000"), "ok");
    assert!(server.join().unwrap() == pattern(3_000_000));

    // Nobody listens: the guest is refused, the host client sees the end of file.
    assert!(guest.ask("refused 8").starts_with("Connection reset"));
    let mut stream = std::os::unix::net::UnixStream::connect(vmm.path("vsock.sock")).unwrap();
    stream.write_all(b"CONNECT 5001\n").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_panic_is_told_with_the_last_lines_of_the_console() {
    let Some(means) = means() else { return };
    let setting = Setting::bootable(&means);
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut control = vmm.control();
    let mut guest = Guest::accept(&listener);
    assert_eq!(guest.ask("print the last words"), "ok");
    guest.tell("panic");
    assert!(matches!(next_event(&mut control), Event::Hello { .. }));
    assert!(matches!(next_event(&mut control), Event::Started { .. }));
    let last = next_event(&mut control);
    let end = vmm.wait();
    assert_eq!(end.report, last);
    assert_eq!(end.status.code(), Some(1));
    assert_eq!(end.stderr, "husk-vmm: the guest's kernel panicked\n");
    let Event::Stopped { reason: StopReason::Panic, console } = last else { panic!("{last:?}") };
    assert!(console.contains("the last words") && console.contains("Kernel panic"), "{console}");
}

#[test]
fn stop_ends_a_guest_and_its_emulator_at_once() {
    let Some(means) = means() else { return };
    let setting = Setting::bootable(&means);
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let _guest = Guest::accept(&listener);
    let mut control = vmm.control();
    control.get_mut().write_all(b"{\"command\":\"stop\"}\n").unwrap();
    let end = vmm.wait();
    assert!(end.status.success() && end.stderr.is_empty(), "{}", end.stderr);
    assert!(matches!(end.report, Event::Stopped { reason: StopReason::Requested, .. }));
}
