//! A real guest with network devices on taps of a network of the test's own, and a balloon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "a skipped test says why, and what was measured is shown")]

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Guest, PATIENCE, Setting, Vmm, means, sys::tap};
use husk_vmm_config::{Balloon, Net, RateLimit, TokenBucket};
use sha2::{Digest, Sha256};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that the guest sends.
fn pattern(count: usize) -> Vec<u8> {
    let piece: Vec<u8> = (0..=250).cycle().take(64 << 10).collect();
    piece.into_iter().cycle().take(count).collect()
}

/// A guest with one network device, its interface up; `None` where that cannot be.
fn start(change: impl FnOnce(&mut Net)) -> Option<(Vmm, Guest, String)> {
    let means = means()?;
    let tap = match tap::enter_own_network().and_then(|()| tap::make("tap0", "10.9.8.1/24")) {
        Ok(tap) => tap,
        Err(error) => {
            eprintln!("SKIP: no tap in a network of its own: {error}");
            return None;
        }
    };
    let mut setting = Setting::bootable(&means);
    change(setting.add_net(tap, MAC));
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);
    let facts = guest.ask("net 10.9.8.2");
    Some((vmm, guest, facts))
}

/// Sends all of it to a port of the guest, and returns what it answers and how long it took.
fn send(port: u16, bytes: &[u8]) -> (String, Duration) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(("10.9.8.2", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer, started.elapsed())
}

/// Lets the guest send so many bytes, and returns them and how long it took.
fn receive(guest: &mut Guest, count: usize) -> (Vec<u8>, Duration) {
    let listener = TcpListener::bind(("10.9.8.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let started = Instant::now();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::with_capacity(count);
        stream.read_to_end(&mut bytes).unwrap();
        (bytes, started.elapsed())
    });
    assert_eq!(guest.ask(&format!("push 10.9.8.1:{port} {count}")), "ok");
    reader.join().unwrap()
}

fn show(what: &str, length: usize, time: Duration) {
    let rate = u128::try_from(length).unwrap() * 1_000_000 / time.as_micros().max(1) / (1 << 20);
    eprintln!("{what}: {} MiB in {time:?}, {rate} MiB/s", length >> 20);
}

#[test]
fn datagrams_and_streams_cross_in_both_directions() {
    let Some((_vmm, mut guest, facts)) = start(|net| net.mtu = 1400) else { return };
    // Checksums, segments, mergeable buffers, address, MTU; the rings' three.
    assert_eq!(facts, "52:54:00:00:00:02 1400 0,1,3,5,7,8,11,12,15,28,29,32");

    let socket = UdpSocket::bind(("10.9.8.1", 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let echo = thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        let (length, from) = socket.recv_from(&mut bytes).unwrap();
        socket.send_to(&bytes[..length], from).unwrap();
    });
    // Longer than any frame: it crosses in fragments.
    let answer = guest.ask(&format!("datagram 10.9.8.1:{port} 20000"));
    assert_eq!(answer, sha256(&pattern(20_000)));
    echo.join().unwrap();

    assert_eq!(guest.ask("serve 1"), "ok");
    let length = 8 << 20;
    assert_eq!(send(1, &pattern(length)).0, sha256(&pattern(length)));
    assert!(receive(&mut guest, length).0 == pattern(length));

    assert_eq!(guest.ask("serve 2"), "ok");
    let length = 64 << 20;
    let (answer, time) = send(2, &pattern(length));
    assert_eq!(answer, length.to_string());
    show("tap to guest", length, time);
    let (bytes, time) = receive(&mut guest, length);
    assert_eq!(bytes.len(), length);
    show("guest to tap", length, time);
}

#[test]
fn a_limited_device_is_as_slow_as_it_was_told_to_be() {
    let bytes = TokenBucket { size: 256 << 10, one_time_burst: 0, refill_per_second: 1 << 20 };
    let limit = Some(RateLimit { bytes: Some(bytes), operations: None });
    let limited = start(|net| (net.rx_rate_limit, net.tx_rate_limit) = (limit, limit));
    let Some((_vmm, mut guest, _)) = limited else { return };
    assert_eq!(guest.ask("serve 2"), "ok");
    let length = 2 << 20;
    // What the bucket held at first is free, and one frame may be ahead of its tokens.
    let least = Duration::from_millis(1000 * (2048 - 256 - 64) / 1024);
    let (answer, time) = send(2, &pattern(length));
    assert_eq!(answer, length.to_string());
    show("limited to 1 MiB/s, tap to guest", length, time);
    assert!(time >= least, "{time:?}");
    let (bytes, time) = receive(&mut guest, length);
    assert_eq!(bytes.len(), length);
    show("limited to 1 MiB/s, guest to tap", length, time);
    assert!(time >= least, "{time:?}");
}

#[test]
fn a_balloon_is_there_when_it_is_asked_for() {
    let Some(means) = means() else { return };
    let mut setting = Setting::bootable(&means);
    let all = Balloon { free_page_reporting: true, statistics: true, deflate_on_oom: true };
    setting.config.balloon = Some(all);
    let listener = Guest::listener(&setting);
    let _vmm = setting.start();
    let devices = Guest::accept(&listener).ask("devices");
    assert!(devices.split(' ').any(|kind| kind == "5"), "{devices}");
}
