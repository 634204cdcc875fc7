//! The device model: two queues, no control queue.
//!
//! What the guest may change about its network device, its host has no use for: the tap is not
//! promiscuous, and the address is the one in the configuration space. So there is nothing to
//! control, and nothing more to attack.

use std::io;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MTU,
};
use virtio_queue::{DescriptorChain, Queue, QueueT};
use vm_memory::VolatileSlice;

use super::receive::{Gathered, Room};
use super::{
    Backend, ETHERNET_LENGTH, FRAME_LENGTH_MAX, HEADER_LENGTH, Header, Offload, PIECES_MAX,
};
use crate::rate_limiter::Throttle;
use crate::virtio::used::wants_signal;
use crate::virtio::{
    Buffers, Chain, Device, DeviceKind, Memory, QueueError, RING_FEATURES, Readiness, Serve,
    Served, read_config_bytes, serve,
};

/// The token under which the host announces that the tap is ready.
pub const TAP: u32 = 0;

/// The token of the alarm of what the guest receives.
pub const RECEIVE_THROTTLE: u32 = 1;

/// The token of the alarm of what the guest sends.
pub const TRANSMIT_THROTTLE: u32 = 2;

/// Enough for two of the longest frames in the buffers of 1.5 KiB that drivers offer.
const QUEUE_SIZE: u16 = 256;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Frames for the guest in one turn.
const TURN: usize = 64;

/// Bytes of `struct virtio_net_config` up to the MTU.
const CONFIG_LENGTH: usize = 12;

/// Bytes of a VLAN tag, which an MTU does not count.
const TAG_LENGTH: usize = 4;

/// What is read once and checked of a frame that the guest sends: header and addresses.
const CHECKED_LENGTH: usize = HEADER_LENGTH + ETHERNET_LENGTH;

/// A network device of one guest.
pub struct Net<T> {
    tap: T,
    mac: [u8; 6],
    mtu: u16,
    features: u64,
    active: bool,
    /// The tap may have a frame, or room for one: said once, until it turns out otherwise.
    readable: bool,
    writable: bool,
    /// Frames wait for buffers of the driver, which will kick.
    starved: bool,
    /// Frames of the driver wait for the tap or for tokens.
    stalled: bool,
    receive_throttle: Throttle,
    transmit_throttle: Throttle,
}

impl<T: Backend> Net<T> {
    /// A device with that address, for packets of at most `mtu` bytes.
    pub fn new(tap: T, mac: [u8; 6], mtu: u16) -> Self {
        Self {
            tap,
            mac,
            mtu,
            features: 0,
            active: false,
            readable: true,
            writable: true,
            starved: false,
            stalled: false,
            receive_throttle: Throttle::default(),
            transmit_throttle: Throttle::default(),
        }
    }

    /// The same with limits, whose alarms arrive under [`RECEIVE_THROTTLE`] and
    /// [`TRANSMIT_THROTTLE`].
    #[must_use]
    pub fn with_throttles(self, receive: Throttle, transmit: Throttle) -> Self {
        Self { receive_throttle: receive, transmit_throttle: transmit, ..self }
    }

    fn accepted(&self, feature: u32) -> bool {
        self.features & 1 << feature != 0
    }

    /// What frames for the guest may leave to it.
    fn offload(&self) -> Offload {
        let checksum = self.accepted(VIRTIO_NET_F_GUEST_CSUM);
        // Segments have checksums: without the one there is not the other (section 5.1.3.1).
        Offload {
            checksum,
            tso4: checksum && self.accepted(VIRTIO_NET_F_GUEST_TSO4),
            tso6: checksum && self.accepted(VIRTIO_NET_F_GUEST_TSO6),
        }
    }

    /// Bytes of the longest frame for the guest.
    fn frame_length(&self) -> usize {
        let Offload { tso4, tso6, .. } = self.offload();
        let plain = CHECKED_LENGTH + TAG_LENGTH + usize::from(self.mtu);
        if tso4 || tso6 { FRAME_LENGTH_MAX } else { plain }
    }

    fn receive(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Served, QueueError> {
        let before = queue.next_used();
        let mergeable = self.accepted(VIRTIO_NET_F_MRG_RXBUF);
        let mut room = Room::new(memory, self.frame_length(), mergeable);
        queue.disable_notification(memory)?;
        let more = self.fill(&mut room, queue, memory)?;
        room.put_back(queue);
        let used = queue.next_used() != before;
        Ok(Served { used, signal: wants_signal(queue, memory, before)?, more })
    }

    /// Reads frames into `room`; whether there is more to do at once.
    fn fill(
        &mut self,
        room: &mut Room<'_>,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<bool, QueueError> {
        self.starved = false;
        for _ in 0..TURN {
            if !self.readable || !self.receive_throttle.begin() {
                return Ok(false);
            }
            match room.gather(queue)? {
                Gathered::Ready => {}
                Gathered::Spent => return Ok(true),
                // The kick is asked for while nothing is put back, or it would not come.
                Gathered::Starved if queue.enable_notification(memory)? => {
                    queue.disable_notification(memory)?;
                    continue;
                }
                Gathered::Starved => {
                    self.starved = true;
                    return Ok(false);
                }
            }
            match self.tap.read(room.pieces()) {
                Ok(length) if length >= CHECKED_LENGTH => {
                    self.receive_throttle.charge(length - HEADER_LENGTH);
                    room.commit(queue, length)?;
                }
                // No Ethernet frame: the tap has dropped it.
                Ok(_) => {}
                // Empty, or an interface that is down: the host tells when that changes.
                Err(_) => self.readable = false,
            }
        }
        Ok(self.readable)
    }

    /// Sends one frame of the driver, or drops it.
    fn transmit(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> Serve {
        let Ok(Chain { readable, .. }) = Chain::collect(chain, memory) else {
            return Serve::Done(0);
        };
        let Some((mut front, rest)) = self.check(readable) else { return Serve::Done(0) };
        if !self.transmit_throttle.admit(ETHERNET_LENGTH + rest.len()) {
            self.stalled = true;
            return Serve::Stop;
        }
        match self.send(&mut front, &rest) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                self.stalled = true;
                Serve::Stop
            }
            // What the host does not take is lost, as on any wire.
            _ => Serve::Done(0),
        }
    }

    /// Copies what was checked, so that the guest cannot change it any more, and returns it with
    /// the rest of the frame.
    ///
    /// A frame under another address than ours is dropped: it would turn the host's bridge, which
    /// learns from senders, against the other guests on it.
    fn check<'m>(&self, mut frame: Buffers<'m>) -> Option<([u8; CHECKED_LENGTH], Buffers<'m>)> {
        if frame.len() > FRAME_LENGTH_MAX {
            return None;
        }
        let mut front = frame.read::<CHECKED_LENGTH>().ok()?;
        let (header, ethernet) = front.split_at_mut(HEADER_LENGTH);
        if ethernet[6..12] != self.mac {
            return None;
        }
        let bytes = <[u8; HEADER_LENGTH]>::try_from(&*header).expect("it was cut to this length");
        let parsed = Header::parse(bytes, ETHERNET_LENGTH + frame.len(), self.features).ok()?;
        header.copy_from_slice(&parsed.encode());
        Some((front, frame))
    }

    fn send(&mut self, front: &mut [u8], rest: &Buffers<'_>) -> io::Result<()> {
        let mut pieces = Vec::with_capacity(1 + rest.slices().len().min(PIECES_MAX));
        pieces.push(VolatileSlice::from(front));
        if rest.slices().len() < PIECES_MAX {
            pieces.extend_from_slice(rest.slices());
            return self.tap.write(&pieces);
        }
        // No driver cuts a frame into so many pieces, but it may.
        let mut bytes = vec![0; rest.len()];
        rest.copy_to(&mut bytes);
        pieces.push(VolatileSlice::from(&mut bytes[..]));
        self.tap.write(&pieces)
    }
}

impl<T: Backend> Device for Net<T> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Net
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
            | 1 << VIRTIO_NET_F_CSUM
            | 1 << VIRTIO_NET_F_GUEST_CSUM
            | 1 << VIRTIO_NET_F_MTU
            | 1 << VIRTIO_NET_F_MAC
            | 1 << VIRTIO_NET_F_GUEST_TSO4
            | 1 << VIRTIO_NET_F_GUEST_TSO6
            | 1 << VIRTIO_NET_F_HOST_TSO4
            | 1 << VIRTIO_NET_F_HOST_TSO6
            | 1 << VIRTIO_NET_F_MRG_RXBUF
    }

    /// `struct virtio_net_config` (section 5.1.4).
    fn read_config(&self, offset: u32, data: &mut [u8]) {
        let mut space = [0; CONFIG_LENGTH];
        space[..6].copy_from_slice(&self.mac);
        space[10..].copy_from_slice(&self.mtu.to_le_bytes());
        read_config_bytes(&space, offset, data);
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
        self.active = true;
        self.readable = true;
        self.writable = true;
        // A tap that takes all of them, as was tried when it was handed in, takes some of them.
        let _ = self.tap.set_offload(self.offload());
    }

    fn reset(&mut self) {
        self.active = false;
        self.features = 0;
        self.starved = false;
        self.stalled = false;
        self.receive_throttle.reset();
        self.transmit_throttle.reset();
        let _ = self.tap.set_offload(Offload::default());
    }

    fn process(
        &mut self,
        index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        match index {
            RECEIVE if !self.receive_throttle.is_waiting() => self.receive(queue, memory),
            TRANSMIT if !self.transmit_throttle.is_waiting() => {
                self.stalled = false;
                serve(queue, memory, |chain| self.transmit(chain, memory))
            }
            _ => Ok(Served::default()),
        }
    }

    fn handle_event(&mut self, token: u32, readiness: Readiness) {
        match token {
            TAP => {
                self.readable |= readiness.readable;
                self.writable |= readiness.writable;
            }
            RECEIVE_THROTTLE => self.receive_throttle.wake(),
            TRANSMIT_THROTTLE => self.transmit_throttle.wake(),
            _ => {}
        }
    }

    fn ready_queues(&self) -> u32 {
        let receive =
            self.active && self.readable && !self.starved && !self.receive_throttle.is_waiting();
        let transmit = self.stalled && self.writable && !self.transmit_throttle.is_waiting();
        u32::from(receive) << RECEIVE | u32::from(transmit) << TRANSMIT
    }
}
