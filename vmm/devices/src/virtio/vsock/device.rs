//! The device model: three queues, of which the third never carries anything.

use std::collections::VecDeque;
use std::io;

use virtio_queue::{DescriptorChain, Queue};

use super::connection::{After, Connection, Key};
use super::packet::Operation;
use super::table::Table;
use super::{HEADER_LENGTH, HOST_CID, Header, HeaderError, Host};
use crate::virtio::{
    Buffers, Chain, Device, DeviceKind, Memory, QueueError, RING_FEATURES, Readiness, Serve,
    Served, read_config_bytes, serve,
};

/// The token under which the host announces waiting clients.
pub const LISTENER: u32 = u32::MAX;

const QUEUE_SIZE: u16 = 128;

/// Buffers for the guest, packets of the guest, and events (a migration, which never happens).
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Refusals that wait for buffers of the guest; with more, its own packets wait.
const REFUSALS_MAX: usize = 256;

/// Bytes of all backlogs together; with more, the guest's packets wait.
const HELD_MAX: usize = 32 << 20;

/// Ports of connections that the host asked for; those below are the host's to listen on.
const HOST_PORT_MIN: u32 = 1 << 30;

/// A socket device for one guest.
pub struct Vsock<H: Host> {
    host: H,
    guest_cid: u64,
    table: Table<H::Stream>,
    /// Connections with a packet for the guest, each once, in turn.
    ready: VecDeque<u32>,
    refusals: VecDeque<Header>,
    next_port: u32,
    active: bool,
    /// Bytes of all backlogs.
    held: usize,
    /// Packets of the guest wait for one of the two limits.
    stalled: bool,
    /// Clients wait for descriptors to become free; some have.
    clients_wait: bool,
    freed: bool,
}

impl<H: Host> Vsock<H> {
    /// A device for the guest with that context ID.
    pub fn new(host: H, guest_cid: u32) -> Self {
        Self {
            host,
            guest_cid: guest_cid.into(),
            table: Table::default(),
            ready: VecDeque::new(),
            refusals: VecDeque::new(),
            next_port: HOST_PORT_MIN,
            active: false,
            held: 0,
            stalled: false,
            clients_wait: false,
            freed: false,
        }
    }

    /// Connections, handshakes included.
    pub fn connection_count(&self) -> usize {
        self.table.len()
    }

    /// Fills one chain with the next packet for the guest.
    fn send(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> Serve {
        if self.ready.is_empty() && self.refusals.is_empty() {
            return Serve::Stop;
        }
        let room = Chain::collect(chain, memory).and_then(|chain| {
            let mut payload = chain.writable;
            Ok((payload.take(HEADER_LENGTH)?, payload))
        });
        // A buffer too small for a header is the driver's loss.
        let Ok((place, payload)) = room else { return Serve::Done(0) };
        let Some(header) = self.next_packet(&payload) else { return Serve::Stop };
        place.copy_from(&header.encode());
        let length = u32::try_from(HEADER_LENGTH).expect("44 fits") + header.length;
        Serve::Done(length)
    }

    fn next_packet(&mut self, room: &Buffers<'_>) -> Option<Header> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Some(refusal);
        }
        while let Some(token) = self.ready.pop_front() {
            let Some(connection) = self.table.get(token) else { continue };
            if !std::mem::take(&mut connection.queued) {
                continue;
            }
            let Some((operation, flags, length)) = connection.next_packet(room) else {
                let after = connection.settle();
                self.apply(token, after);
                continue;
            };
            let key = connection.key().expect("a connection with packets has ports");
            let (buf_alloc, fwd_cnt) = connection.tell_credit();
            let after = match operation {
                Operation::Reset => After::Close,
                _ => connection.settle(),
            };
            self.apply(token, after);
            return Some(Header {
                src_cid: HOST_CID,
                dst_cid: self.guest_cid,
                src_port: key.host_port,
                dst_port: key.guest_port,
                length: u32::try_from(length).expect("a payload is bounded"),
                operation,
                flags,
                buf_alloc,
                fwd_cnt,
            });
        }
        None
    }

    /// Takes one packet of the guest.
    fn receive(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> Serve {
        if self.refusals.len() >= REFUSALS_MAX || self.held >= HELD_MAX {
            self.stalled = true;
            return Serve::Stop;
        }
        let Ok(Chain { mut readable, .. }) = Chain::collect(chain, memory) else {
            return Serve::Done(0);
        };
        match readable.read::<HEADER_LENGTH>().map(Header::parse) {
            Ok(Ok(header)) => match readable.take(header.length as usize) {
                Ok(payload) => self.handle_packet(&header, payload),
                Err(_) => self.refuse(&header),
            },
            Ok(Err(HeaderError::Unsupported { reset, .. })) => {
                // Whatever it was, it must be answered: take it for one that can be.
                self.refuse(&Header { operation: Operation::Request, ..reset });
            }
            Ok(Err(HeaderError::TooLong(_))) | Err(_) => {}
        }
        Serve::Done(0)
    }

    fn handle_packet(&mut self, header: &Header, payload: Buffers<'_>) {
        if header.src_cid != self.guest_cid || header.dst_cid != HOST_CID {
            return self.refuse(header);
        }
        let key = Key { guest_port: header.src_port, host_port: header.dst_port };
        match (self.table.find(key), header.operation) {
            (None, Operation::Request) => self.open(key, header),
            (None, _) => self.refuse(header),
            (Some(token), _) => {
                self.step(token, |connection| connection.handle_packet(header, payload));
            }
        }
    }

    /// A connection that the guest asks for.
    fn open(&mut self, key: Key, header: &Header) {
        if !self.table.has_room() {
            return self.refuse(header);
        }
        let Ok(stream) = self.host.connect(key.host_port) else { return self.refuse(header) };
        match self.take_in(Connection::requested_by_guest(stream, key)) {
            // The request itself carries the guest's credit.
            Some(token) => self.step(token, |connection| connection.open(header)),
            None => self.refuse(header),
        }
    }

    /// Clients of the host that wait to be let in.
    fn accept(&mut self) {
        self.clients_wait = false;
        loop {
            match self.host.accept() {
                // Without a driver, or with a full table, the end of file is the refusal.
                Ok(stream) if self.active && self.table.has_room() => {
                    self.take_in(Connection::accepted(stream));
                }
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    io::ErrorKind::WouldBlock => return,
                    // Most likely out of descriptors: the next one that is freed is a reason.
                    _ => {
                        self.clients_wait = true;
                        return;
                    }
                },
            }
        }
    }

    fn take_in(&mut self, connection: Connection<H::Stream>) -> Option<u32> {
        let token = self.table.insert(connection).ok()?;
        let connection = self.table.get(token)?;
        if self.host.watch(connection.stream(), token).is_err() {
            self.table.remove(token);
            return None;
        }
        Some(token)
    }

    /// Does something with a connection, and what follows from it.
    fn step(&mut self, token: u32, act: impl FnOnce(&mut Connection<H::Stream>) -> After) {
        let Some(connection) = self.table.get(token) else { return };
        let before = connection.backlog();
        let after = act(connection);
        self.held = self.held + connection.backlog() - before;
        self.apply(token, after);
    }

    fn apply(&mut self, token: u32, after: After) {
        match after {
            After::Keep => {}
            After::Close => return self.remove(token),
            After::Orphan => return self.table.forget(token),
            After::Reset => {
                if let Some(connection) = self.table.get(token) {
                    connection.owe_reset();
                }
            }
            After::Request(guest_port) => self.request(token, guest_port),
        }
        let Some(connection) = self.table.get(token) else { return };
        if !connection.queued && connection.has_packet() {
            connection.queued = true;
            self.ready.push_back(token);
        }
    }

    /// Asks the guest for a connection on behalf of a host client.
    fn request(&mut self, token: u32, guest_port: u32) {
        let key = loop {
            let key = Key { guest_port, host_port: self.next_port };
            self.next_port = self.next_port.checked_add(1).unwrap_or(HOST_PORT_MIN);
            // The table is far smaller than the range: a free one comes soon.
            if self.table.find(key).is_none() {
                break key;
            }
        };
        self.table.name(token, key);
        if let Some(connection) = self.table.get(token) {
            connection.request(key);
        }
    }

    fn remove(&mut self, token: u32) {
        if let Some(connection) = self.table.remove(token) {
            self.held -= connection.backlog();
            self.freed = true;
        }
    }

    fn refuse(&mut self, header: &Header) {
        self.refusals.extend(header.refusal());
    }

    /// Lets clients in that waited for descriptors.
    fn retry_accept(&mut self) {
        if std::mem::take(&mut self.freed) && self.clients_wait {
            self.accept();
        }
    }
}

impl<H: Host> Device for Vsock<H> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Vsock
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 3]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        read_config_bytes(&self.guest_cid.to_le_bytes(), offset, data);
    }

    fn activate(&mut self, _features: u64) {
        self.active = true;
    }

    fn reset(&mut self) {
        self.active = false;
        self.table.clear();
        self.ready.clear();
        self.refusals.clear();
        self.held = 0;
        self.stalled = false;
        self.freed = true;
    }

    fn process(
        &mut self,
        index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        let served = match index {
            RECEIVE => serve(queue, memory, |chain| self.send(chain, memory)),
            TRANSMIT => {
                self.stalled = false;
                serve(queue, memory, |chain| self.receive(chain, memory))
            }
            _ => Ok(Served::default()),
        };
        self.retry_accept();
        served
    }

    fn handle_event(&mut self, token: u32, readiness: Readiness) {
        if token == LISTENER {
            self.accept();
        } else {
            self.step(token, |connection| connection.handle_event(readiness));
        }
        self.retry_accept();
    }

    fn ready_queues(&self) -> u32 {
        let receive = !self.ready.is_empty() || !self.refusals.is_empty();
        let transmit = self.stalled && self.refusals.len() < REFUSALS_MAX && self.held < HELD_MAX;
        u32::from(receive) << RECEIVE | u32::from(transmit) << TRANSMIT
    }
}
