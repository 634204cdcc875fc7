//! The device between a fake host and a driver.

use std::collections::VecDeque;

use vm_memory::{Bytes, GuestAddress};

use super::super::{HOST_CID, Header, LISTENER, Operation, Vsock};
use super::host::{FakeHost, Peer};
use super::{CID, READABLE};
use crate::virtio::driver::Driver;
use crate::virtio::{Device, Memory, Readiness};

/// A device, its two queues, and the driver's view of them.
pub(super) struct Setting<'m> {
    pub(super) memory: &'m Memory,
    pub(super) vsock: Vsock<FakeHost>,
    pub(super) host: FakeHost,
    pub(super) rx: Driver<'m>,
    pub(super) tx: Driver<'m>,
    /// Buffers offered to the device, in order.
    pub(super) offered: VecDeque<u64>,
    pub(super) next_buffer: u64,
}

/// Bytes of a buffer for the guest.
pub(super) const BUFFER: u64 = 4096;

impl<'m> Setting<'m> {
    pub(super) fn new(memory: &'m Memory) -> Self {
        let host = FakeHost::default();
        let mut vsock = Vsock::new(host.clone(), CID);
        vsock.activate(0);
        let (rx, tx) = (Driver::new(memory), Driver::at(memory, 0x41_0000));
        let (offered, next_buffer) = (VecDeque::new(), 0);
        let mut setting = Self { memory, vsock, host, rx, tx, offered, next_buffer };
        setting.offer_buffers(64);
        setting
    }

    pub(super) fn offer_buffers(&mut self, count: usize) {
        for _ in 0..count {
            let address = 0x10_0000 + BUFFER * (self.next_buffer % 128);
            self.next_buffer += 1;
            self.rx.offer(&[(address, u32::try_from(BUFFER).unwrap(), true)]);
            self.offered.push_back(address);
        }
    }

    pub(super) fn serve(&mut self, port: u32, sends: &[u8]) -> Peer {
        let peer = Peer::new(sends);
        self.host.0.lock().unwrap().servers.insert(port, peer.clone());
        peer
    }

    pub(super) fn client(&mut self, sends: &[u8]) -> Peer {
        let peer = Peer::new(sends);
        self.host.0.lock().unwrap().clients.push_back(Ok(peer.clone()));
        self.vsock.handle_event(LISTENER, READABLE);
        self.event_all(READABLE);
        peer
    }

    pub(super) fn event_all(&mut self, readiness: Readiness) {
        let watched = self.host.0.lock().unwrap().watched.clone();
        for token in watched {
            self.vsock.handle_event(token, readiness);
        }
    }

    /// Sends packets of the guest, as one batch.
    pub(super) fn send(&mut self, packets: &[(Header, &[u8])]) {
        for (place, (header, payload)) in packets.iter().enumerate() {
            let at = 0x1000 + 0x1_1000 * place as u64;
            self.memory.write_slice(&header.encode(), GuestAddress(at)).unwrap();
            self.memory.write_slice(payload, GuestAddress(at + 44)).unwrap();
            let length = u32::try_from(44 + payload.len()).unwrap();
            self.tx.offer(&[(at, 44, false), (at + 44, length - 44, false)]);
        }
        let _ = self.vsock.process(1, &mut self.tx.queue, self.memory).unwrap();
    }

    /// What the device has for the guest now.
    pub(super) fn receive(&mut self) -> Vec<(Header, Vec<u8>)> {
        let _ = self.vsock.process(0, &mut self.rx.queue, self.memory).unwrap();
        let mut packets = Vec::new();
        for used in self.rx.used() {
            let at = self.offered.pop_front().unwrap();
            let mut header = [0; 44];
            self.memory.read_slice(&mut header, GuestAddress(at)).unwrap();
            let mut payload = vec![0; used as usize - 44];
            self.memory.read_slice(&mut payload, GuestAddress(at + 44)).unwrap();
            packets.push((Header::parse(header).unwrap(), payload));
        }
        packets
    }

    pub(super) fn operations(&mut self) -> Vec<Operation> {
        self.receive().iter().map(|(header, _)| header.operation).collect()
    }

    /// A connection that the guest asked for, to port 9 from port 1.
    pub(super) fn open(&mut self, sends: &[u8]) -> Peer {
        let peer = self.serve(9, sends);
        self.send(&[(guest(Operation::Request, 0), &[])]);
        assert_eq!(self.operations(), [Operation::Response]);
        peer
    }
}

/// A packet from guest port 1 to host port 9, with a large buffer.
pub(super) fn guest(operation: Operation, length: usize) -> Header {
    Header {
        src_cid: CID.into(),
        dst_cid: HOST_CID,
        src_port: 1,
        dst_port: 9,
        length: u32::try_from(length).unwrap(),
        operation,
        flags: 0,
        buf_alloc: 1 << 20,
        fwd_cnt: 0,
    }
}

pub(super) fn shutdown(flags: u32) -> Header {
    Header { flags, ..guest(Operation::Shutdown, 0) }
}
