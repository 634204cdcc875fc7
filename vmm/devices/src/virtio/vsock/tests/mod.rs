//! The device between a fake host and a driver that sends what it likes.

mod host;
mod setting;

use std::io;
use std::net::Shutdown;

use vm_memory::{Bytes, GuestAddress};

use self::host::{FakeHost, Peer};
use self::setting::{Setting, guest, shutdown};
use super::credit::WINDOW;
use super::*;
use crate::virtio::driver::Driver;
use crate::virtio::{Device, Readiness};

const CID: u32 = 3;
const READABLE: Readiness = Readiness { readable: true, writable: false };
const WRITABLE: Readiness = Readiness { readable: false, writable: true };

#[test]
fn the_guest_connects_and_bytes_flow_both_ways() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"welcome");
    setting.event_all(READABLE);
    let packets = setting.receive();
    assert_eq!(packets.len(), 1);
    assert_eq!(
        (packets[0].0.operation, packets[0].1.as_slice()),
        (Operation::Data, &b"welcome"[..])
    );
    assert_eq!((packets[0].0.src_port, packets[0].0.dst_port, packets[0].0.dst_cid), (9, 1, 3));
    setting.send(&[(guest(Operation::Data, 5), b"hello")]);
    assert_eq!(peer.received(), b"hello");
}

#[test]
fn a_port_nobody_serves_is_refused() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    setting.send(&[(guest(Operation::Request, 0), &[])]);
    assert_eq!(setting.operations(), [Operation::Reset]);
    assert_eq!(setting.vsock.connection_count(), 0);
}

#[test]
fn a_host_client_is_connected_by_its_line() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.client(b"CONNECT 52\nearly");
    let (request, _) = setting.receive().remove(0);
    assert_eq!((request.operation, request.dst_port), (Operation::Request, 52));
    assert!(request.src_port >= 1 << 30);
    assert_eq!(peer.received(), b"", "nothing before the guest has answered");
    let answer =
        Header { src_port: 52, dst_port: request.src_port, ..guest(Operation::Response, 0) };
    setting.send(&[(answer, &[])]);
    assert_eq!(peer.received(), b"OK 52\n");
    assert_eq!(setting.receive()[0].1, b"early", "what followed the line is not lost");
}

#[test]
fn a_client_that_the_guest_refuses_sees_the_end_of_file() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.client(b"CONNECT 52\n");
    let (request, _) = setting.receive().remove(0);
    let refusal = Header { src_port: 52, dst_port: request.src_port, ..guest(Operation::Reset, 0) };
    setting.send(&[(refusal, &[])]);
    assert!(peer.is_closed() && peer.received().is_empty());
}

#[test]
fn lines_that_are_none_lose_their_connection() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let lines: [&[u8]; 8] = [
        b"\n",
        b"CONNECT\n",
        b"CONNECT \n",
        b"CONNECT x\n",
        b"CONNECT +1\n",
        b"CONNECT 4294967296\n",
        b"\xff\n",
        b"CONNECT 00000000000000000000000000000000000001",
    ];
    for line in lines {
        assert!(setting.client(line).is_closed(), "{line:?}");
    }
    assert!(!setting.client(b"CONNECT 1").is_closed(), "the rest may come");
    assert!(setting.receive().is_empty());
}

#[test]
fn clients_before_the_driver_see_the_end_of_file() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    setting.vsock.reset();
    assert!(setting.client(b"CONNECT 52\n").is_closed());
}

#[test]
fn packets_for_no_connection_are_reset_and_resets_are_not() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    setting.send(&[
        (guest(Operation::Data, 3), b"abc"),
        (guest(Operation::Response, 0), &[]),
        (guest(Operation::Shutdown, 0), &[]),
        (guest(Operation::CreditUpdate, 0), &[]),
        (guest(Operation::CreditRequest, 0), &[]),
        (guest(Operation::Reset, 0), &[]),
    ]);
    assert_eq!(setting.operations(), [Operation::Reset; 5]);
}

#[test]
fn packets_of_other_contexts_reach_no_connection() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    setting.send(&[
        (Header { src_cid: 4, ..guest(Operation::Data, 3) }, b"abc"),
        (Header { dst_cid: 1, ..guest(Operation::Data, 3) }, b"abc"),
        (Header { dst_cid: u64::MAX, ..guest(Operation::Reset, 0) }, &[]),
    ]);
    assert!(peer.received().is_empty() && !peer.is_closed());
}

#[test]
fn malformed_packets_are_given_back_and_forgotten() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    let _ = setting.tx.used();
    memory.write_slice(&guest(Operation::Data, 100).encode(), GuestAddress(0x1000)).unwrap();
    setting.tx.offer(&[(0x1000, 43, false)]);
    setting.tx.offer(&[(0x1000, 44, false), (0x2000, 99, false)]);
    setting.tx.offer(&[(0x1000, 44, true)]);
    setting.tx.offer(&[(1 << 40, 44, false)]);
    setting.tx.offer(&[(0x1000, u32::MAX, false)]);
    setting.tx.offer_loop(0x1000, 44);
    let _ = setting.vsock.process(1, &mut setting.tx.queue, &memory).unwrap();
    assert_eq!(setting.tx.used(), [0; 6]);
    assert_eq!(peer.received().len(), 100, "the loop holds a whole packet, the others none");
}

#[test]
fn a_second_request_for_the_same_ports_ends_the_first() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    setting.send(&[(guest(Operation::Request, 0), &[])]);
    assert_eq!(setting.operations(), [Operation::Reset]);
    assert!(peer.is_closed());
}

#[test]
fn nothing_is_read_for_a_guest_without_credit() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.serve(9, &[7; 1000]);
    setting.send(&[(Header { buf_alloc: 300, ..guest(Operation::Request, 0) }, &[])]);
    setting.event_all(READABLE);
    let packets = setting.receive();
    let lengths: Vec<_> =
        packets.iter().map(|(header, _)| (header.operation, header.length)).collect();
    assert_eq!(
        lengths,
        [(Operation::Response, 0), (Operation::Data, 300), (Operation::CreditRequest, 0)]
    );
    let reads = peer.with(|state| state.reads);
    for _ in 0..10 {
        setting.event_all(READABLE);
        assert!(setting.receive().is_empty());
        assert_eq!(setting.vsock.ready_queues(), 0, "no busy turns");
    }
    assert_eq!(peer.with(|state| state.reads), reads);
    let update = Header { buf_alloc: 300, fwd_cnt: 250, ..guest(Operation::CreditUpdate, 0) };
    setting.send(&[(update, &[])]);
    assert_eq!(setting.receive()[0].0.length, 250);
}

#[test]
fn a_guest_that_lies_about_its_credit_hurts_itself_only() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(&[7; 100]);
    let lie = Header { fwd_cnt: u32::MAX / 2, buf_alloc: 1, ..guest(Operation::CreditUpdate, 0) };
    setting.send(&[(lie, &[])]);
    setting.event_all(READABLE);
    assert!(setting.receive().is_empty() && !peer.is_closed());
}

#[test]
fn more_bytes_than_the_window_reset_the_connection() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    peer.with(|state| state.room = 0);
    let half = vec![1; WINDOW as usize / 2];
    let data = guest(Operation::Data, half.len());
    setting.send(&[(data, &half), (data, &half)]);
    assert!(setting.receive().is_empty());
    setting.send(&[(guest(Operation::Data, 1), b"x")]);
    assert_eq!(setting.operations(), [Operation::Reset]);
    assert!(peer.is_closed());
}

#[test]
fn a_slow_reader_gets_every_byte_and_the_guest_its_credit_back() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    peer.with(|state| state.room = 10);
    let bytes: Vec<u8> = (0..60_000_u32).map(|place| u8::try_from(place % 251).unwrap()).collect();
    setting.send(&[(guest(Operation::Data, bytes.len()), &bytes)]);
    assert_eq!(peer.received().len(), 10);
    assert!(setting.receive().is_empty(), "too little has left to speak of");
    peer.with(|state| state.room = usize::MAX);
    setting.event_all(WRITABLE);
    assert_eq!(peer.received(), bytes);
    let (header, _) = setting.receive().remove(0);
    assert_eq!((header.operation, header.fwd_cnt), (Operation::CreditUpdate, 60_000));
    assert_eq!(header.buf_alloc, WINDOW);
}

#[test]
fn a_request_for_credit_is_answered() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    setting.open(b"");
    setting.send(&[(guest(Operation::CreditRequest, 0), &[])]);
    assert_eq!(setting.operations(), [Operation::CreditUpdate]);
}

#[test]
fn the_host_closes_its_half_and_still_hears_the_guest() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"question");
    peer.with(|state| state.sent_all = true);
    setting.event_all(READABLE);
    let packets = setting.receive();
    assert_eq!(packets[0].1, b"question");
    assert_eq!((packets[1].0.operation, packets[1].0.flags), (Operation::Shutdown, 2));
    setting.send(&[(guest(Operation::Data, 6), b"answer"), (shutdown(2), &[])]);
    assert_eq!(peer.received(), b"answer");
    assert_eq!(peer.with(|state| state.shutdowns.clone()), [Shutdown::Write]);
    assert_eq!(setting.operations(), [Operation::Reset], "both halves are done");
    assert!(peer.is_closed());
}

#[test]
fn the_guest_closes_its_half_and_still_hears_the_host() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    setting.send(&[(guest(Operation::Data, 3), b"all"), (shutdown(2), &[])]);
    assert_eq!(peer.with(|state| state.shutdowns.clone()), [Shutdown::Write]);
    peer.with(|state| {
        state.sends.extend(b"late answer");
        state.sent_all = true;
    });
    setting.event_all(READABLE);
    let packets = setting.receive();
    assert_eq!(packets[0].1, b"late answer");
    assert_eq!(packets[1].0.operation, Operation::Shutdown);
    assert_eq!(packets[2].0.operation, Operation::Reset);
    assert!(peer.is_closed());
}

#[test]
fn a_guest_that_closes_is_told_once_the_host_has_its_bytes() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    peer.with(|state| state.room = 0);
    setting.send(&[(guest(Operation::Data, 4), b"last"), (shutdown(3), &[])]);
    assert!(setting.receive().is_empty(), "the reader is slow");
    peer.with(|state| state.room = 100);
    setting.event_all(WRITABLE);
    assert_eq!(setting.operations(), [Operation::Reset]);
    assert_eq!(peer.received(), b"last");
    assert!(peer.is_closed());
}

#[test]
fn bytes_of_a_guest_that_gave_up_waiting_still_arrive() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    peer.with(|state| state.room = 0);
    setting.send(&[
        (guest(Operation::Data, 4), b"last"),
        (shutdown(3), &[]),
        (guest(Operation::Reset, 0), &[]),
    ]);
    assert!(!peer.is_closed());
    // The ports are free for another connection already.
    setting.serve(9, b"");
    setting.send(&[(guest(Operation::Request, 0), &[])]);
    assert_eq!(setting.operations(), [Operation::Response]);
    peer.with(|state| state.room = 100);
    setting.event_all(WRITABLE);
    assert_eq!(peer.received(), b"last");
    assert!(peer.is_closed());
    assert_eq!(setting.vsock.connection_count(), 1);
}

#[test]
fn a_host_that_is_gone_loses_the_guests_bytes_but_none_of_its_own() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"left behind");
    peer.with(|state| {
        state.gone = true;
        state.sent_all = true;
    });
    setting.send(&[(guest(Operation::Data, 3), b"abc")]);
    setting.event_all(READABLE);
    let packets = setting.receive();
    let operations: Vec<_> = packets.iter().map(|(header, _)| header.operation).collect();
    let told = packets.iter().find(|(header, _)| header.operation == Operation::Shutdown).unwrap();
    assert_eq!(told.0.flags, 3, "the guest hears that nobody listens nor speaks");
    let data = packets.iter().find(|(header, _)| header.operation == Operation::Data).unwrap();
    assert_eq!(data.1, b"left behind");
    assert_eq!(operations.last(), Some(&Operation::Reset));
    assert!(peer.is_closed());
}

#[test]
fn data_after_the_guests_shutdown_is_a_violation() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    setting.send(&[(shutdown(2), &[]), (guest(Operation::Data, 3), b"abc")]);
    assert_eq!(setting.operations(), [Operation::Reset]);
    assert!(peer.received().is_empty());
}

#[test]
fn connections_beyond_the_limit_are_refused_and_room_is_used_again() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    for port in 0..u32::try_from(CONNECTIONS_MAX).unwrap() {
        setting.serve(9, b"");
        setting.send(&[(Header { src_port: port, ..guest(Operation::Request, 0) }, &[])]);
        assert_eq!(setting.operations(), [Operation::Response]);
        setting.offer_buffers(1);
    }
    setting.send(&[(Header { src_port: 5000, ..guest(Operation::Request, 0) }, &[])]);
    assert_eq!(setting.operations(), [Operation::Reset]);
    assert!(setting.client(b"CONNECT 1\n").is_closed());
    setting.send(&[(Header { src_port: 7, ..guest(Operation::Reset, 0) }, &[])]);
    setting.send(&[(Header { src_port: 5000, ..guest(Operation::Request, 0) }, &[])]);
    assert_eq!(setting.operations(), [Operation::Response]);
    assert_eq!(setting.vsock.connection_count(), CONNECTIONS_MAX);
}

#[test]
fn a_storm_of_packets_to_be_refused_waits_for_buffers() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let mut answered = setting.receive().len();
    for _ in 0..20 {
        for place in 0..16 {
            let at = 0x1000 + 64 * place;
            let header = guest(Operation::Data, 0);
            memory.write_slice(&header.encode(), GuestAddress(at)).unwrap();
            setting.tx.offer(&[(at, 44, false)]);
        }
        // The driver never gives a buffer: refusals pile up to the limit, then its packets wait.
        let _ = setting.vsock.process(1, &mut setting.tx.queue, &memory).unwrap();
        if setting.tx.used().len() < 16 {
            break;
        }
    }
    assert_eq!(setting.vsock.ready_queues() & 2, 0, "no busy turns while it is full");
    for _ in 0..10 {
        let count = setting.receive().len();
        answered += count;
        setting.offer_buffers(count);
        if setting.vsock.ready_queues() & 2 != 0 {
            let _ = setting.vsock.process(1, &mut setting.tx.queue, &memory).unwrap();
        }
    }
    assert!(answered >= 256, "{answered}");
}

#[test]
fn clients_that_found_no_descriptor_are_let_in_when_one_is_free() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let first = setting.open(b"");
    let waiting = Peer::new(b"CONNECT 5\n");
    {
        let mut host = setting.host.0.lock().unwrap();
        host.clients.push_back(Err(io::Error::from_raw_os_error(24)));
        host.clients.push_back(Ok(waiting.clone()));
    }
    setting.vsock.handle_event(LISTENER, READABLE);
    assert_eq!(setting.vsock.connection_count(), 1);
    setting.send(&[(guest(Operation::Reset, 0), &[])]);
    assert!(first.is_closed());
    assert_eq!(setting.vsock.connection_count(), 1, "the waiting one took its place");
}

#[test]
fn a_reset_of_the_device_closes_every_stream() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let peer = setting.open(b"");
    setting.vsock.reset();
    assert!(peer.is_closed());
    assert_eq!((setting.vsock.connection_count(), setting.vsock.ready_queues()), (0, 0));
}

#[test]
fn connections_take_turns() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    for port in [1, 2] {
        setting.serve(9, &[u8::try_from(port).unwrap(); 20_000]);
        setting.send(&[(Header { src_port: port, ..guest(Operation::Request, 0) }, &[])]);
    }
    assert_eq!(setting.operations(), [Operation::Response; 2]);
    setting.event_all(READABLE);
    let ports: Vec<_> = setting.receive().iter().map(|(header, _)| header.dst_port).collect();
    assert_eq!(ports[..6], [1, 2, 1, 2, 1, 2]);
}

#[test]
fn a_buffer_too_small_for_a_header_is_the_drivers_loss() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    setting.serve(9, b"");
    let mut rx = Driver::at(&memory, 0x42_0000);
    rx.offer(&[(0x9000, 43, true)]);
    rx.offer(&[(0x9000, 44, true)]);
    setting.send(&[(guest(Operation::Request, 0), &[])]);
    let _ = setting.vsock.process(0, &mut rx.queue, &memory).unwrap();
    assert_eq!(rx.used(), [0, 44]);
}

#[test]
fn the_configuration_space_is_the_context_id() {
    let vsock = Vsock::new(FakeHost::default(), 77);
    let mut bytes = [0; 8];
    vsock.read_config(0, &mut bytes);
    assert_eq!(u64::from_le_bytes(bytes), 77);
}
