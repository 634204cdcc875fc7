//! The socket device between a guest that may lie about anything and peers that count bytes.
//!
//! As long as the guest keeps to its rings, every peer must see the guest's bytes in order, and
//! the device must never send more than the guest's last word on its credit allows.

#![no_main]

use std::collections::{HashMap, VecDeque};

use arbitrary::Arbitrary;
use husk_devices::virtio::vsock::{HOST_CID, Header, LISTENER, Operation, Vsock};
use husk_devices::virtio::{Device, Readiness};
use husk_fuzz::{
    ACTIONS_MAX, Action, Driver, MEBIBYTE, Peer, PeerState, SocketHost, bounded, counted,
};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};

const CID: u32 = 3;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Where the guest's packets are written, and where its buffers for the host's lie.
const PACKET: u64 = 0x8000;
const BUFFERS: u64 = 0x4_0000;
const BUFFER_LENGTH: u64 = 1024;

#[derive(Arbitrary, Debug)]
enum Step {
    /// Whatever a driver can do; nothing is promised to it afterwards.
    Driver(Action),
    /// Somebody serves a port, with that much to send and room for that much.
    Serve { port: u8, sends: u16, room: u16 },
    /// A client connects, with that line.
    Client { line: Line, sends: u16, room: u16 },
    /// A packet of the guest.
    Packet { port: u8, peer: u8, operation: u8, length: u16, credit: Credit, flags: u8 },
    /// Bytes on a connection in order, as a sound guest sends them.
    Send { port: u8, peer: u8, length: u16 },
    /// A header of any content.
    Junk { header: [u8; 11], length: u16 },
    /// Buffers for packets of the host.
    Buffers { count: u8, length: u16 },
    /// Something happened to the peer that was made so many before the last.
    Peer { which: u8, event: PeerEvent },
    /// Descriptors run out, or no longer.
    Exhausted(bool),
    /// Everything watched becomes readable and writable.
    Wake,
}

#[derive(Arbitrary, Debug)]
enum Line {
    Connect(u8),
    Half,
    Wrong(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Credit {
    Generous,
    Small(u8),
    Lie { buf_alloc: u32, fwd_cnt: u32 },
}

#[derive(Arbitrary, Debug)]
enum PeerEvent {
    Sends(u16),
    Room(u16),
    Ends,
    Gone,
}

fuzz_target!(|steps: Vec<Step>| {
    // What all backlogs may hold, and a little for each connection.
    bounded(40 * MEBIBYTE, || {
        let mut setting = Setting::new();
        for step in steps.iter().take(ACTIONS_MAX) {
            setting.step(step);
        }
        // The driver goes: nothing of its may stay.
        setting.driver.device.reset();
        assert_eq!(setting.driver.device.connection_count(), 0);
        assert!(setting.peers.iter().all(|peer| peer.state().closed || setting.waits(peer)));
    });
});

struct Setting {
    driver: Driver<Vsock<SocketHost>>,
    host: SocketHost,
    peers: Vec<Peer>,
    /// The guest has kept to its rings so far.
    honest: bool,
    /// Buffers of the guest, in order.
    offered: VecDeque<(u64, u32)>,
    next_buffer: u64,
    /// Bytes that the guest has sent, by its port and the host's.
    sent: HashMap<(u32, u32), usize>,
}

impl Setting {
    fn new() -> Self {
        let host = SocketHost::default();
        let driver = Driver::new(Vsock::new(host.clone(), CID));
        Self {
            driver,
            host,
            peers: Vec::new(),
            honest: true,
            offered: VecDeque::new(),
            next_buffer: 0,
            sent: HashMap::new(),
        }
    }

    /// Whether the device never had that peer.
    fn waits(&self, peer: &Peer) -> bool {
        // Host, test and device hold a peer; one that the device took and dropped is closed.
        let state = peer.state();
        !state.closed && state.received == 0
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Driver(ref action) => {
                if !matches!(action, Action::Poll | Action::Kick(_) | Action::Read(..)) {
                    self.dishonest();
                }
                self.driver.act(action);
            }
            Step::Serve { port, sends, room } => {
                let peer = self.peer(sends, room);
                self.host.state().servers.insert(u32::from(port % 4), peer);
            }
            Step::Client { ref line, sends, room } => self.client(line, sends, room),
            Step::Packet { port, peer, operation, length, credit, flags } => {
                // Bytes out of order are fine with the device, so no peer may insist.
                self.strict(false);
                let operation = match operation % 7 {
                    0 => Operation::Request,
                    1 => Operation::Response,
                    2 => Operation::Reset,
                    3 => Operation::Shutdown,
                    4 => Operation::Data,
                    5 => Operation::CreditUpdate,
                    _ => Operation::CreditRequest,
                };
                let header =
                    Header { flags: flags.into(), ..header(port, peer, operation, credit) };
                self.send(Header { length: length.into(), ..header }, length);
            }
            Step::Send { port, peer, length } => self.send_in_order(port, peer, length % 2048),
            Step::Junk { header, length } => {
                let mut bytes = [0; 44];
                bytes[..11].copy_from_slice(&header);
                bytes[24..35].copy_from_slice(&header);
                self.send_bytes(&bytes, length);
            }
            Step::Buffers { count, length } => self.offer_buffers(count % 16, length),
            Step::Peer { which, ref event } => self.peer_event(which, event),
            Step::Exhausted(exhausted) => self.host.state().exhausted = exhausted,
            Step::Wake => self.wake(),
        }
    }

    fn dishonest(&mut self) {
        self.honest = false;
        self.strict(false);
    }

    fn strict(&mut self, strict: bool) {
        for peer in &self.peers {
            peer.state().strict &= strict;
        }
    }

    fn peer(&mut self, sends: u16, room: u16) -> Peer {
        let peer = Peer::new(PeerState {
            sends: sends.into(),
            room: room.into(),
            strict: self.honest,
            ..PeerState::default()
        });
        self.peers.push(peer.clone());
        peer
    }

    fn client(&mut self, line: &Line, sends: u16, room: u16) {
        let peer = self.peer(sends, room);
        let opening = match line {
            Line::Connect(port) => format!("CONNECT {}\n", port % 4).into_bytes(),
            Line::Half => b"CONNECT 1".to_vec(),
            Line::Wrong(byte) => vec![b'C', *byte, b'\n'],
        };
        {
            let mut state = peer.state();
            state.opening = opening.into();
            state.expects_line = true;
        }
        self.host.state().clients.push_back(peer);
        self.driver.device.handle_event(LISTENER, Readiness { readable: true, writable: false });
        self.wake();
    }

    fn wake(&mut self) {
        let watched = self.host.state().watched.clone();
        for token in watched {
            let readiness = Readiness { readable: true, writable: true };
            self.driver.device.handle_event(token, readiness);
        }
        self.poll();
    }

    fn poll(&mut self) {
        self.driver.poll();
        self.collect();
    }

    fn send_in_order(&mut self, port: u8, peer: u8, length: u16) {
        let header = header(port, peer, Operation::Data, Credit::Generous);
        let key = (header.src_port, header.dst_port);
        let start = self.sent.get(&key).copied().unwrap_or(0);
        let bytes: Vec<u8> = (start..start + usize::from(length)).map(counted).collect();
        self.driver.memory().write_slice(&bytes, GuestAddress(PACKET + 44)).unwrap();
        self.sent.insert(key, start + bytes.len());
        self.send(Header { length: length.into(), ..header }, length);
    }

    fn send(&mut self, header: Header, length: u16) {
        if header.operation == Operation::Request {
            // A new connection counts anew.
            self.sent.remove(&(header.src_port, header.dst_port));
        }
        self.send_bytes(&header.encode(), length);
    }

    fn send_bytes(&mut self, header: &[u8], length: u16) {
        if self.driver.is_broken(TRANSMIT) {
            return;
        }
        self.driver.memory().write_slice(header, GuestAddress(PACKET)).unwrap();
        let parts = [(PACKET, 44, false), (PACKET + 44, length.into(), false)];
        self.driver.offer_at(TRANSMIT, &parts);
        self.driver.kick(TRANSMIT);
        // One that has to wait would be overwritten by the next.
        if self.driver.used(TRANSMIT).is_empty() {
            self.dishonest();
        }
        self.poll();
    }

    fn offer_buffers(&mut self, count: u8, length: u16) {
        let length = u32::from(length) % u32::try_from(BUFFER_LENGTH).unwrap();
        for _ in 0..count {
            // Beyond that, the honest driver's ring would be full.
            if self.offered.len() >= 32 {
                break;
            }
            let address = BUFFERS + BUFFER_LENGTH * (self.next_buffer % 32);
            self.next_buffer += 1;
            self.offered.push_back((address, length));
            self.driver.offer_at(RECEIVE, &[(address, length, true)]);
        }
        self.driver.kick(RECEIVE);
        self.poll();
    }

    /// Reads what the guest received.
    fn collect(&mut self) {
        let used = self.driver.used(RECEIVE);
        if !self.honest {
            return;
        }
        for (_, length) in used {
            let (address, room) = self.offered.pop_front().expect("only offered buffers are used");
            assert!(length <= room, "no more than there was room for");
            if length == 0 {
                assert!(room < 44, "a buffer with room for a header gets one");
                continue;
            }
            let mut bytes = [0; 44];
            self.driver.memory().read_slice(&mut bytes, GuestAddress(address)).unwrap();
            let header = Header::parse(bytes).expect("the device writes sound headers");
            assert_eq!(length, 44 + header.length, "the packet is as long as it says");
            assert_eq!((header.length > 0), header.operation == Operation::Data);
        }
    }

    fn peer_event(&mut self, which: u8, event: &PeerEvent) {
        let index = self.peers.len().checked_sub(1 + usize::from(which) % 8);
        let Some(peer) = index.and_then(|index| self.peers.get(index)) else { return };
        let mut state = peer.state();
        match event {
            PeerEvent::Sends(count) => state.sends += usize::from(*count),
            PeerEvent::Room(count) => state.room += usize::from(*count),
            PeerEvent::Ends => state.sent_all = true,
            PeerEvent::Gone => state.gone = true,
        }
        drop(state);
        self.wake();
    }
}

/// A packet of the guest, on one of few pairs of ports.
fn header(port: u8, peer: u8, operation: Operation, credit: Credit) -> Header {
    let (buf_alloc, fwd_cnt) = match credit {
        Credit::Generous => (1 << 20, 0),
        Credit::Small(bytes) => (bytes.into(), 0),
        Credit::Lie { buf_alloc, fwd_cnt } => (buf_alloc, fwd_cnt),
    };
    // The host's own ports for its clients count up from there.
    let host_port =
        if peer % 2 == 0 { u32::from(peer / 2 % 4) } else { (1 << 30) + u32::from(peer / 2 % 4) };
    Header {
        src_cid: CID.into(),
        dst_cid: HOST_CID,
        src_port: u32::from(port % 4),
        dst_port: host_port,
        length: 0,
        operation,
        flags: 0,
        buf_alloc,
        fwd_cnt,
    }
}
