//! One connection: what each side still owes the other.
//!
//! ```text
//! Handshake ── CONNECT line ──▶ Requested ── response ──▶ Established ──▶ gone
//!  (host client)                                ▲              │ reset with a backlog
//!                     guest's request ──────────┘              ▼
//!                                                          Orphaned ── flushed ──▶ gone
//! ```

use std::io;
use std::net::Shutdown;

use super::backlog::Backlog;
use super::credit::Credit;
use super::packet::{Operation, PAYLOAD_LENGTH_MAX, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use super::{Header, Stream};
use crate::virtio::{Buffers, Readiness};

/// The longest line that a host client may open with: `CONNECT 4294967295`, and room for error.
const LINE_LENGTH_MAX: usize = 32;

/// The ports of a connection; the context IDs are the same for all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    /// The guest's.
    pub guest_port: u32,
    /// The host's.
    pub host_port: u32,
}

/// How far a connection is.
#[derive(Debug)]
enum Phase {
    /// A host client has yet to say where it wants to.
    Handshake(Vec<u8>),
    /// The guest has yet to answer.
    Requested,
    /// Bytes flow.
    Established,
    /// The guest is gone, bytes of its still wait for the host.
    Orphaned,
}

/// What has to happen to a connection after a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(super) enum After {
    /// Nothing.
    Keep,
    /// It is over; the guest knows.
    Close,
    /// It is over; the guest must hear of it.
    Reset,
    /// The guest knows that it is over, but its last bytes are still here.
    Orphan,
    /// The handshake is done: the host client wants to that guest port.
    Request(u32),
}

/// Control packets that wait for a buffer of the guest.
#[derive(Debug, Default)]
struct Owed {
    request: bool,
    response: bool,
    update: bool,
    ask: bool,
    reset: bool,
}

/// A stream of the host and its half of the protocol.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    phase: Phase,
    key: Option<Key>,
    credit: Credit,
    backlog: Backlog,
    owed: Owed,
    /// As far as known without asking the stream again.
    ready: Readiness,
    /// The host has sent its last byte.
    host_done: bool,
    /// The host takes no more bytes.
    host_deaf: bool,
    /// The shutdown flags that the guest sent, and those it was sent.
    guest_shutdown: u32,
    told_shutdown: u32,
    /// Waits in the device's ready queue.
    pub queued: bool,
}

impl<S: Stream> Connection<S> {
    /// A host client that has just connected.
    pub(super) fn accepted(stream: S) -> Self {
        Self::new(stream, Phase::Handshake(Vec::new()), None)
    }

    /// A connection that the guest asked for.
    pub(super) fn requested_by_guest(stream: S, key: Key) -> Self {
        let mut connection = Self::new(stream, Phase::Established, Some(key));
        connection.owed.response = true;
        connection
    }

    fn new(stream: S, phase: Phase, key: Option<Key>) -> Self {
        Self {
            stream,
            phase,
            key,
            credit: Credit::default(),
            backlog: Backlog::default(),
            owed: Owed::default(),
            ready: Readiness { readable: false, writable: true },
            host_done: false,
            host_deaf: false,
            guest_shutdown: 0,
            told_shutdown: 0,
            queued: false,
        }
    }

    /// The stream, to be watched.
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// Bytes that wait for the host.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Turns a finished handshake into a request to the guest.
    pub(super) fn request(&mut self, key: Key) {
        self.phase = Phase::Requested;
        self.key = Some(key);
        self.owed.request = true;
    }

    /// What a packet to the guest says of the buffer here.
    pub(super) fn tell_credit(&mut self) -> (u32, u32) {
        self.credit.tell()
    }

    /// Whether a packet for the guest is due, or probably so.
    pub(super) fn has_packet(&self) -> bool {
        let Owed { request, response, update, ask, reset } = self.owed;
        match self.phase {
            Phase::Handshake(_) | Phase::Orphaned => false,
            Phase::Requested => request || reset,
            Phase::Established => {
                response
                    || update
                    || ask
                    || reset
                    || self.credit.update_due()
                    || self.shutdown_due() != 0
                    || (self.wants_to_read() && self.credit.sendable() > 0)
            }
        }
    }

    /// The next packet for the guest, its payload already in `room`; nothing if none is due.
    pub(super) fn next_packet(&mut self, room: &Buffers<'_>) -> Option<(Operation, u32, usize)> {
        let bare = |operation| Some((operation, 0, 0));
        if std::mem::take(&mut self.owed.reset) {
            return bare(Operation::Reset);
        }
        if std::mem::take(&mut self.owed.request) {
            return bare(Operation::Request);
        }
        if !matches!(self.phase, Phase::Established) {
            return None;
        }
        if std::mem::take(&mut self.owed.response) {
            return bare(Operation::Response);
        }
        if let Some(length) = self.read(room) {
            return Some((Operation::Data, 0, length));
        }
        if std::mem::take(&mut self.owed.update) || self.credit.update_due() {
            return bare(Operation::CreditUpdate);
        }
        let due = self.shutdown_due();
        if due != 0 {
            self.told_shutdown |= due;
            return Some((Operation::Shutdown, self.told_shutdown, 0));
        }
        if std::mem::take(&mut self.owed.ask) {
            return bare(Operation::CreditRequest);
        }
        None
    }

    /// The request of the guest that made this connection, for the credit it carries.
    pub(super) fn open(&mut self, header: &Header) -> After {
        self.credit.learn(header.buf_alloc, header.fwd_cnt);
        After::Keep
    }

    /// A packet of the guest for this connection.
    pub(super) fn handle_packet(&mut self, header: &Header, payload: Buffers<'_>) -> After {
        self.credit.learn(header.buf_alloc, header.fwd_cnt);
        match (&self.phase, header.operation) {
            (_, Operation::Reset) if self.backlog.is_empty() => After::Close,
            (_, Operation::Reset) => {
                self.phase = Phase::Orphaned;
                self.owed = Owed::default();
                After::Orphan
            }
            (Phase::Requested, Operation::Response) => self.establish(),
            (Phase::Established, Operation::Data) => self.receive(payload),
            (Phase::Established, Operation::CreditUpdate) => After::Keep,
            (Phase::Established, Operation::CreditRequest) => {
                self.owed.update = true;
                After::Keep
            }
            (Phase::Established, Operation::Shutdown) => self.shut_down(header.flags),
            (_, _) => After::Reset,
        }
    }

    /// The stream became readable or writable.
    pub(super) fn handle_event(&mut self, readiness: Readiness) -> After {
        self.ready.readable |= readiness.readable;
        self.ready.writable |= readiness.writable;
        if let Phase::Handshake(_) = self.phase {
            return self.read_line();
        }
        self.flush();
        match self.phase {
            Phase::Orphaned if self.backlog.is_empty() => After::Close,
            _ => self.settle(),
        }
    }

    /// Whether both directions are over, after something has been sent or received.
    pub(super) fn settle(&mut self) -> After {
        if !matches!(self.phase, Phase::Established) {
            return After::Keep;
        }
        let guest_sent_all = self.guest_shutdown & SHUTDOWN_SEND != 0 && self.backlog.is_empty();
        if guest_sent_all && !self.host_deaf {
            // It fails only where the host is gone, which its end of file will tell.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        let host_sent_all = self.host_done && self.told_shutdown & SHUTDOWN_SEND != 0;
        let guest_deaf = self.guest_shutdown & SHUTDOWN_RECEIVE != 0;
        if (guest_sent_all || self.host_deaf) && (host_sent_all || guest_deaf) {
            return After::Reset;
        }
        After::Keep
    }

    /// Reads the line byte by byte, so that what follows it stays in the stream.
    fn read_line(&mut self) -> After {
        let Phase::Handshake(line) = &mut self.phase else { return After::Keep };
        loop {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(1) if byte == *b"\n" => break,
                Ok(1) if line.len() < LINE_LENGTH_MAX => line.push(byte[0]),
                Ok(_) => return After::Close,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return After::Keep,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return After::Close,
            }
        }
        let port = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("CONNECT "));
        let digits = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|port| port.parse().ok()) {
            Some(port) => After::Request(port),
            None => After::Close,
        }
    }

    fn establish(&mut self) -> After {
        self.phase = Phase::Established;
        let port = self.key.map_or(0, |key| key.guest_port);
        // The first bytes in an empty socket buffer: either all of them fit or the client is gone.
        if self.stream.write_all(format!("OK {port}\n").as_bytes()).is_err() {
            self.deafen();
        }
        self.settle()
    }

    fn wants_to_read(&self) -> bool {
        self.ready.readable && !self.host_done && self.guest_shutdown & SHUTDOWN_RECEIVE == 0
    }

    /// Reads as much as room, credit and packet allow into guest memory.
    fn read(&mut self, room: &Buffers<'_>) -> Option<usize> {
        while self.wants_to_read() {
            let credit = self.credit.sendable().min(PAYLOAD_LENGTH_MAX) as usize;
            if credit == 0 {
                return None;
            }
            let mut room = room.clone();
            room.truncate(credit.min(room.len()));
            if room.is_empty() {
                return None;
            }
            match self.stream.read_volatile(room.slices()) {
                Ok(0) => self.host_done = true,
                Ok(count) => {
                    let count = count.min(room.len());
                    self.credit.send(u32::try_from(count).expect("a payload is bounded"));
                    // The guest says so by itself in most cases; asking makes sure.
                    self.owed.ask = self.credit.sendable() == 0;
                    return Some(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.readable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.host_done = true,
            }
        }
        None
    }

    fn receive(&mut self, mut payload: Buffers<'_>) -> After {
        let length = u32::try_from(payload.len()).expect("the parser bounds it");
        if self.guest_shutdown & SHUTDOWN_SEND != 0 || self.credit.receive(length).is_err() {
            return After::Reset;
        }
        while !payload.is_empty() {
            if self.host_deaf {
                self.credit.forward(u32::try_from(payload.len()).expect("the parser bounds it"));
                break;
            }
            if !self.ready.writable || !self.backlog.is_empty() {
                self.backlog.push(payload);
                break;
            }
            match self.stream.write_volatile(payload.slices()) {
                Ok(count) if count > 0 && payload.take(count).is_ok() => {
                    self.credit.forward(u32::try_from(count).expect("the parser bounds it"));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.writable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => self.deafen(),
            }
        }
        self.settle()
    }

    fn shut_down(&mut self, flags: u32) -> After {
        self.guest_shutdown |= flags & (SHUTDOWN_RECEIVE | SHUTDOWN_SEND);
        if self.guest_shutdown & SHUTDOWN_RECEIVE != 0 {
            // It fails only where the host is gone, which its end of file will tell.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        self.settle()
    }

    fn flush(&mut self) {
        if !self.ready.writable || self.backlog.is_empty() {
            return;
        }
        let (written, outcome) = self.backlog.flush(&mut self.stream);
        self.credit.forward(u32::try_from(written).expect("credit bounds the backlog"));
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.writable = false,
            Err(_) => self.deafen(),
        }
    }

    /// The host takes no more: what waits is lost, what comes is discarded, and what the host has
    /// sent before still goes to the guest.
    fn deafen(&mut self) {
        self.host_deaf = true;
        let lost = self.backlog.clear();
        self.credit.forward(u32::try_from(lost).expect("credit bounds the backlog"));
    }

    /// The flags that the guest should hear and has not heard.
    fn shutdown_due(&self) -> u32 {
        let mut flags = 0;
        if self.host_done {
            flags |= SHUTDOWN_SEND;
        }
        if self.host_deaf {
            flags |= SHUTDOWN_RECEIVE;
        }
        flags & !self.told_shutdown
    }

    /// Makes a reset the next and last packet.
    pub(super) fn owe_reset(&mut self) {
        self.owed = Owed { reset: true, ..Owed::default() };
    }
}

impl<S> Connection<S> {
    /// Its ports, once it has some.
    pub(super) fn key(&self) -> Option<Key> {
        self.key
    }
}
