//! Output without end and lies about credit: what the host holds for a guest is bounded.

use allocation_counter::measure;
use husk_devices::rate_limiter::{Limits, Rate, Throttle};
use husk_devices::virtio::console::{Console, THROTTLE};
use husk_devices::virtio::vsock::{CONNECTIONS_MAX, HOST_CID, LISTENER, Vsock};

use crate::guest::{Guest, memory};
use crate::subject::{CID, Clock, Sockets, Terminal};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Where the guest's packets lie.
const PACKET: u64 = 0x1_0000;

/// Operations of a packet.
const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const SHUTDOWN: u16 = 4;
const DATA: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;

/// A packet of the guest, its header as it goes over the wire.
#[derive(Clone, Copy)]
struct Packet {
    port: u32,
    host_port: u32,
    operation: u16,
    length: u32,
    buf_alloc: u32,
    fwd_cnt: u32,
}

impl Packet {
    /// From a guest's port to port 9, with a generous buffer.
    fn new(port: u32, operation: u16, length: u32) -> Self {
        Self { port, host_port: 9, operation, length, buf_alloc: 1 << 20, fwd_cnt: 0 }
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u64::from(CID).to_le_bytes());
        bytes.extend(HOST_CID.to_le_bytes());
        bytes.extend(self.port.to_le_bytes());
        bytes.extend(self.host_port.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(1_u16.to_le_bytes());
        bytes.extend(self.operation.to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(self.buf_alloc.to_le_bytes());
        bytes.extend(self.fwd_cnt.to_le_bytes());
        bytes
    }

    fn send(self, guest: &mut Guest) {
        guest.put(PACKET, &self.bytes());
        guest.offer(TRANSMIT, &[(PACKET, 44, false), (PACKET + 0x100, self.length, false)]);
        guest.kick(TRANSMIT);
    }
}

/// A request for a connection from that port.
pub(crate) fn request(guest: &mut Guest, port: u32) {
    Packet::new(port, REQUEST, 0).send(guest);
}

/// Any packet on it.
pub(crate) fn packet(guest: &mut Guest, port: u32, operation: u16, length: u32) {
    Packet::new(port, operation, length).send(guest);
}

fn setting() -> (Guest, Sockets) {
    let sockets = Sockets::default();
    let device = Box::new(Vsock::new(sockets.clone(), CID));
    (Guest::live(device, memory()), sockets)
}

/// Buffers for packets of the host, each of so many bytes.
fn offer_buffers(guest: &mut Guest, count: u64, length: u32) {
    for place in 0..count {
        guest.offer(RECEIVE, &[(0x20_0000 + 0x1000 * (place % 256), length, true)]);
    }
    guest.kick(RECEIVE);
}

#[test]
fn console_output_without_end_keeps_its_last_lines_and_no_more() {
    let terminal = Terminal::default();
    let mut guest = Guest::live(Box::new(Console::new(terminal.clone())), memory());
    guest.put(0x10_0000, &vec![b'x'; 1 << 20]);
    let (rounds, chains, length) = (32_u64, 64_u64, 64_u32 << 10);
    let held = measure(|| {
        for _ in 0..rounds {
            for _ in 0..chains {
                guest.offer(TRANSMIT, &[(0x10_0000, length, false)]);
            }
            guest.kick(TRANSMIT);
            assert_eq!(guest.used(TRANSMIT).len() as u64, chains);
        }
    });
    assert!(held.bytes_max < 256 << 10, "{} bytes were held", held.bytes_max);
    let all = rounds * chains * u64::from(length);
    assert_eq!(terminal.dropped(), all - Terminal::KEPT as u64, "and all of it counted");
    assert_eq!(terminal.text().len(), Terminal::KEPT);
}

#[test]
fn a_console_over_its_limit_makes_the_guest_wait_and_keeps_nobody_busy() {
    let (terminal, clock) = (Terminal::default(), Clock::default());
    let half = Rate { size: 2 << 20, one_time_burst: 0, refill_per_second: 2 << 20 };
    let limits = Limits { bytes: Some(half), operations: None };
    let console = Console::new(terminal.clone());
    let console = console.with_throttle(Throttle::new(limits, Box::new(clock.clone())));
    let mut guest = Guest::live(Box::new(console), memory());
    for _ in 0..64 {
        guest.offer(TRANSMIT, &[(0x10_0000, 64 << 10, false)]);
    }
    guest.kick(TRANSMIT);
    assert_eq!(guest.used(TRANSMIT).len(), 32);
    for _ in 0..1000 {
        guest.kick(TRANSMIT);
        assert!(!guest.transport.has_more(), "there is nothing to do");
    }
    assert_eq!(guest.used(TRANSMIT).len(), 0, "nothing is lost");
    clock.advance(1);
    guest.event(THROTTLE);
    assert_eq!(guest.used(TRANSMIT).len(), 32, "and all of it comes");
}

#[test]
fn a_guest_that_sends_more_than_its_credit_loses_its_connection_and_nothing_is_kept() {
    let (mut guest, sockets) = setting();
    request(&mut guest, 1);
    let held = measure(|| {
        for _ in 0..64 {
            packet(&mut guest, 1, DATA, 64 << 10);
        }
    });
    // The window is 128 KiB; a doubling buffer may have as much again.
    assert!(held.bytes_max < 1 << 20, "{} bytes were held", held.bytes_max);
    offer_buffers(&mut guest, 8, 4096);
    assert_eq!(sockets.state().open, 0, "the connection was reset");
}

#[test]
fn many_connections_with_full_windows_stay_under_the_limit_of_all() {
    let (mut guest, _sockets) = setting();
    let held = measure(|| {
        for port in 0..u32::try_from(CONNECTIONS_MAX).unwrap() + 64 {
            request(&mut guest, port);
            offer_buffers(&mut guest, 2, 4096);
            packet(&mut guest, port, DATA, 64 << 10);
            packet(&mut guest, port, DATA, 64 << 10);
        }
    });
    // 32 MiB of bytes that wait, twice for buffers that doubled, and the table.
    assert!(held.bytes_max < 80 << 20, "{} bytes were held", held.bytes_max);
}

#[test]
fn a_guest_that_asks_and_never_listens_is_refused_in_bounded_memory() {
    let (mut guest, sockets) = setting();
    sockets.state().refused.insert(9, ());
    let held = measure(|| {
        for port in 0..20_000 {
            // Nobody serves port 9: each needs an answer for which there is no buffer.
            for operation in [REQUEST, DATA, SHUTDOWN, CREDIT_REQUEST, 99] {
                packet(&mut guest, port, operation, 0);
            }
        }
    });
    assert!(held.bytes_max < 256 << 10, "{} bytes were held", held.bytes_max);
}

#[test]
fn lies_about_the_guests_buffer_never_make_the_host_send_more_than_fits() {
    let lies = [
        (0, 0),
        (1, 0),
        (u32::MAX, 0),
        (u32::MAX, u32::MAX),
        (0, u32::MAX),
        (1 << 31, 1 << 31),
        (4096, u32::MAX - 4096),
    ];
    for (buf_alloc, fwd_cnt) in lies {
        let (mut guest, sockets) = setting();
        sockets.state().sends = 1 << 20;
        Packet { buf_alloc, fwd_cnt, ..Packet::new(1, REQUEST, 0) }.send(&mut guest);
        let watched = sockets.state().watched.clone();
        watched.into_iter().for_each(|token| guest.event(token));
        guest.put(0x20_0000, &[0; 0x10_0000]);
        offer_buffers(&mut guest, 64, 64);
        for _ in 0..8 {
            Packet { buf_alloc, fwd_cnt, ..Packet::new(1, CREDIT_UPDATE, 0) }.send(&mut guest);
            guest.kick(RECEIVE);
        }
        let used = guest.used(RECEIVE);
        assert!(used.iter().all(|&(_, length)| length <= 64), "{buf_alloc} {fwd_cnt}: {used:?}");
        let data: u32 = used.iter().map(|&(_, length)| length.saturating_sub(44)).sum();
        assert!(data <= buf_alloc, "{buf_alloc} {fwd_cnt}: {data} bytes beyond the credit");
        // Not a byte behind any buffer.
        for place in 0..64 {
            let behind = guest.bytes(0x20_0000 + 0x1000 * place + 64, 0x1000 - 64);
            assert!(behind.iter().all(|&byte| byte == 0), "{buf_alloc} {fwd_cnt}");
        }
    }
}

#[test]
fn payloads_that_are_not_as_long_as_they_say_reach_nobody() {
    let (mut guest, sockets) = setting();
    sockets.state().room = usize::MAX;
    request(&mut guest, 1);
    for claimed in [1, 4097, 65_536, 65_537, u32::MAX] {
        guest.put(PACKET, &Packet::new(1, DATA, claimed).bytes());
        guest.offer(TRANSMIT, &[(PACKET, 44, false)]);
        guest.kick(TRANSMIT);
    }
    assert_eq!(sockets.state().taken, 0);
}

#[test]
fn answers_to_questions_that_were_never_asked_open_nothing() {
    let (mut guest, sockets) = setting();
    for port in 0..256 {
        for host_port in [0, 9, 1 << 30, u32::MAX] {
            let packet = Packet::new(port, RESPONSE, 0);
            Packet { host_port, ..packet }.send(&mut guest);
            guest.kick(RECEIVE);
            offer_buffers(&mut guest, 1, 44);
        }
    }
    assert_eq!(sockets.state().open, 0);
}

#[test]
fn clients_of_the_host_without_end_are_bounded_as_well() {
    let (guest, sockets) = setting();
    let held = measure(|| {
        for _ in 0..8 {
            sockets.state().clients.extend((0..CONNECTIONS_MAX).map(|_| b"CONNECT 1".to_vec()));
            guest.event(LISTENER);
        }
    });
    assert!(sockets.state().open <= CONNECTIONS_MAX);
    assert!(held.bytes_max < 4 << 20, "{} bytes were held", held.bytes_max);
}
