//! Both directions from the driver's side, sound and hostile.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_MRG_RXBUF,
};
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

use super::*;
use crate::rate_limiter::{Hand, Limits, Rate, Throttle};
use crate::virtio::driver::Driver;
use crate::virtio::{Buffers, Device, Memory, Readiness};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];

/// No chain was used.
const NONE: [u32; 0] = [];

/// Where the driver keeps its frame, and where its buffers begin.
const FRAME: u64 = 0x1000;
const BUFFERS: u64 = 0x10_0000;

#[derive(Clone, Default)]
struct FakeTap(Arc<Mutex<FakeState>>);

#[derive(Default)]
struct FakeState {
    incoming: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    offload: Offload,
    full: bool,
    pieces_max: usize,
}

impl FakeTap {
    fn with<T>(&self, act: impl FnOnce(&mut FakeState) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.with(|state| std::mem::take(&mut state.sent))
    }
}

impl Backend for FakeTap {
    fn read(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        self.with(|state| {
            let frame = state.incoming.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
            state.pieces_max = state.pieces_max.max(buffers.len());
            Ok(Buffers::from(buffers.to_vec()).copy_from(&frame))
        })
    }

    fn write(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.with(|state| {
            if state.full {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state.pieces_max = state.pieces_max.max(buffers.len());
            let buffers = Buffers::from(buffers.to_vec());
            let mut frame = vec![0; buffers.len()];
            buffers.copy_to(&mut frame);
            state.sent.push(frame);
            Ok(())
        })
    }

    fn set_offload(&mut self, offload: Offload) -> io::Result<()> {
        self.with(|state| state.offload = offload);
        Ok(())
    }
}

struct Setting<'m> {
    memory: &'m Memory,
    driver: Driver<'m>,
    net: Net<FakeTap>,
    tap: FakeTap,
}

impl<'m> Setting<'m> {
    /// A driver that accepts everything but those features.
    fn without(memory: &'m Memory, refused: &[u32]) -> Self {
        let tap = FakeTap::default();
        let net = Net::new(tap.clone(), MAC, 1500);
        Self::of(memory, net, tap, refused)
    }

    fn of(memory: &'m Memory, mut net: Net<FakeTap>, tap: FakeTap, refused: &[u32]) -> Self {
        let refused = refused.iter().fold(0, |bits, feature| bits | 1_u64 << feature);
        net.activate(net.features() & !refused);
        Self { memory, driver: Driver::new(memory), net, tap }
    }

    fn process(&mut self, index: usize) -> Vec<u32> {
        let _ = self.net.process(index, &mut self.driver.queue, self.memory).unwrap();
        self.driver.used()
    }

    /// Lets the tap have a frame of so many bytes behind its header, and says so.
    fn arrive(&mut self, length: usize) -> Vec<u8> {
        let mut frame: Vec<u8> = (0..=250).cycle().take(HEADER_LENGTH + length).collect();
        frame[..HEADER_LENGTH].fill(0);
        self.tap.with(|state| state.incoming.push_back(frame.clone()));
        self.net.handle_event(TAP, Readiness { readable: true, writable: true });
        frame
    }

    /// Offers buffers one behind the other in memory.
    fn offer_buffers(&mut self, count: u64, length: u32) {
        for place in 0..count {
            self.driver.offer(&[(BUFFERS + place * u64::from(length), length, true)]);
        }
    }

    fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// A frame of the driver's in memory, from an address and with a header.
    fn write_frame(&self, header: [u8; HEADER_LENGTH], from: [u8; 6], length: usize) -> Vec<u8> {
        let mut frame: Vec<u8> = (0..=250).cycle().take(HEADER_LENGTH + length).collect();
        frame[..HEADER_LENGTH].copy_from_slice(&header);
        frame[HEADER_LENGTH + 6..HEADER_LENGTH + 12].copy_from_slice(&from);
        self.memory.write_slice(&frame, GuestAddress(FRAME)).unwrap();
        frame
    }

    fn send(&mut self, parts: &[(u64, u32, bool)]) -> Vec<u32> {
        self.driver.offer(parts);
        self.process(TRANSMIT)
    }
}

#[test]
fn address_and_mtu_are_in_the_configuration_space() {
    let net = Net::new(FakeTap::default(), MAC, 1400);
    let mut space = [9; 14];
    net.read_config(0, &mut space);
    assert_eq!(space, [0x52, 0x54, 0, 0, 0, 2, 0, 0, 0, 0, 0x78, 5, 0, 0]);
}

#[test]
fn the_tap_is_told_what_the_driver_can_do() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[VIRTIO_NET_F_GUEST_TSO6]);
    let offload = |setting: &Setting<'_>| setting.tap.with(|state| state.offload);
    assert_eq!(offload(&setting), Offload { checksum: true, tso4: true, tso6: false });
    setting.net.reset();
    assert_eq!(offload(&setting), Offload::default());
    // Segments without checksums make no sense, whatever a driver accepts.
    let setting = Setting::without(&memory, &[VIRTIO_NET_F_GUEST_CSUM]);
    assert_eq!(offload(&setting), Offload::default());
}

#[test]
fn a_frame_fills_as_many_buffers_as_it_needs_and_leaves_the_others() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    setting.offer_buffers(50, 1536);
    let frame = setting.arrive(4000);
    assert_eq!(setting.process(RECEIVE), [1536, 1536, 940]);
    let mut expected = frame;
    expected[10] = 3;
    assert_eq!(setting.read(BUFFERS, 4012), expected);
    // Small ones take one each, from the next on; then there is not enough for the longest.
    setting.arrive(60);
    setting.arrive(60);
    assert_eq!(setting.process(RECEIVE), [72, 72]);
    assert_eq!(setting.read(BUFFERS + 3 * 1536 + 10, 2), [1, 0]);
    for _ in 0..4 {
        setting.arrive(60);
    }
    assert_eq!(setting.process(RECEIVE), [72; 3], "of 45 buffers the longest frame takes 43");
    assert_eq!(setting.net.ready_queues(), 0, "the driver has to come with more");
    setting.offer_buffers(1, 1536);
    assert_eq!(setting.process(RECEIVE), [72]);
}

#[test]
fn the_longest_frame_fits() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    setting.offer_buffers(50, 1536);
    let frame = setting.arrive(FRAME_LENGTH_MAX - HEADER_LENGTH);
    let used = setting.process(RECEIVE);
    assert_eq!(used.iter().sum::<u32>(), 65_562);
    assert_eq!(used.len(), 43);
    assert_eq!(setting.read(BUFFERS + 12, frame.len() - 12), frame[12..]);
}

#[test]
fn without_mergeable_buffers_each_has_to_hold_a_frame() {
    let memory = Driver::memory();
    let plain = [VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6];
    let mut setting = Setting::without(&memory, &plain);
    setting.driver.offer(&[(BUFFERS, 1000, true)]);
    setting.driver.offer(&[(BUFFERS, 12, true), (BUFFERS + 12, 1518, true)]);
    let frame = setting.arrive(1514);
    assert_eq!(setting.process(RECEIVE), [0, 1526], "the one too short comes back empty");
    assert_eq!(setting.read(BUFFERS + 12, 1514), frame[12..]);
    assert_eq!(setting.read(BUFFERS + 10, 2), [1, 0]);
}

#[test]
fn buffers_of_no_use_come_back_empty() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    setting.arrive(60);
    // Sound ones, then too short, unwritable, outside memory, looping, of a thousand pieces.
    setting.offer_buffers(2, 1536);
    setting.driver.offer(&[(BUFFERS, 11, true)]);
    setting.driver.offer(&[(BUFFERS, 1536, false)]);
    setting.driver.offer(&[(1 << 40, 1536, true)]);
    setting.driver.offer(&[(BUFFERS, u32::MAX, true)]);
    setting.driver.offer(&[(BUFFERS, 0, true)]);
    setting.driver.offer_loop(BUFFERS, 16);
    let many: Vec<_> = (0..65).map(|place| (BUFFERS + place * 16, 16, true)).collect();
    setting.driver.offer(&many);
    assert_eq!(setting.process(RECEIVE), [0; 9]);
    setting.driver.offer(&[(BUFFERS, 70_000, true)]);
    assert_eq!(setting.process(RECEIVE), [72], "and the next sound one has the frame");
    assert!(setting.tap.with(|state| state.pieces_max) <= PIECES_MAX);
}

#[test]
fn a_header_may_be_split_over_descriptors() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    let frame = setting.arrive(60);
    setting.driver.offer(&[
        (BUFFERS, 5, true),
        (BUFFERS + 5, 6, true),
        (BUFFERS + 11, 70_000, true),
    ]);
    assert_eq!(setting.process(RECEIVE), [72]);
    assert_eq!(setting.read(BUFFERS + 10, 62), [&[1, 0], &frame[12..]].concat());
}

#[test]
fn a_frame_goes_out_as_it_is_however_it_is_cut() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    let header = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
    let frame = setting.write_frame(header, MAC, 3000);
    assert_eq!(setting.send(&[(FRAME, 3012, false)]), [0]);
    assert_eq!(setting.send(&[(FRAME, 5, false), (FRAME + 5, 3007, false)]), [0]);
    let pieces: Vec<_> = (0..100)
        .map(|place| (FRAME + place * 30, if place == 99 { 42 } else { 30 }, false))
        .collect();
    assert_eq!(setting.send(&pieces), [0]);
    assert_eq!(setting.tap.sent(), [frame.clone(), frame.clone(), frame]);
    assert!(setting.tap.with(|state| state.pieces_max) <= PIECES_MAX);
}

#[test]
fn a_frame_under_another_address_is_dropped() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    setting.write_frame([0; HEADER_LENGTH], [0x52, 0x54, 0, 0, 0, 3], 60);
    assert_eq!(setting.send(&[(FRAME, 72, false)]), [0]);
    assert!(setting.tap.sent().is_empty());
}

#[test]
fn chains_that_hold_no_frame_are_dropped() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    setting.write_frame([0; HEADER_LENGTH], MAC, 80_000);
    for parts in [
        &[(FRAME, 0, false)][..],
        &[(FRAME, 12, false)],
        &[(FRAME, 25, false)],
        &[(FRAME, 65_563, false)],
        &[(FRAME, u32::MAX, false)],
        &[(1 << 40, 72, false)],
        &[(FRAME, 72, true)],
        &[(FRAME, 72, true), (FRAME, 72, false)],
    ] {
        assert_eq!(setting.send(parts), [0], "{parts:?}");
    }
    setting.driver.offer_loop(FRAME, 4096);
    setting.driver.offer_indirect_loop(0x2_0000, 2000);
    assert_eq!(setting.process(TRANSMIT), [0, 0]);
    assert!(setting.tap.sent().is_empty());
    assert_eq!(setting.send(&[(FRAME, 65_562, false)]), [0]);
    assert_eq!(setting.tap.sent()[0].len(), 65_562);
}

#[test]
fn a_full_tap_keeps_the_frames_waiting() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    setting.write_frame([0; HEADER_LENGTH], MAC, 60);
    setting.tap.with(|state| state.full = true);
    assert_eq!(setting.send(&[(FRAME, 72, false)]), NONE);
    setting.net.handle_event(TAP, Readiness::default());
    assert_eq!(setting.net.ready_queues() & 1 << TRANSMIT, 0);
    setting.tap.with(|state| state.full = false);
    setting.net.handle_event(TAP, Readiness { readable: false, writable: true });
    assert_eq!(setting.net.ready_queues() & 1 << TRANSMIT, 1 << TRANSMIT);
    assert_eq!(setting.process(TRANSMIT), [0]);
}

#[test]
fn a_limit_holds_in_each_direction_and_its_alarm_brings_the_rest() {
    let memory = Driver::memory();
    let hands = [Hand::default(), Hand::default()];
    let rate = Rate { size: 2, one_time_burst: 0, refill_per_second: 1 };
    let limits = Limits { bytes: None, operations: Some(rate) };
    let [receive, transmit] = hands.clone().map(|hand| Throttle::new(limits, Box::new(hand)));
    let tap = FakeTap::default();
    let net = Net::new(tap.clone(), MAC, 1500).with_throttles(receive, transmit);
    let mut setting = Setting::of(&memory, net, tap, &[]);
    setting.write_frame([0; HEADER_LENGTH], MAC, 60);
    for _ in 0..3 {
        setting.driver.offer(&[(FRAME, 72, false)]);
    }
    assert_eq!(setting.process(TRANSMIT), [0, 0]);
    assert_eq!(setting.process(TRANSMIT), NONE, "a kick in between changes nothing");
    assert!(hands[1].turn(Duration::from_secs(1)));
    setting.net.handle_event(TRANSMIT_THROTTLE, Readiness { readable: true, writable: false });
    assert_eq!(setting.net.ready_queues() & 1 << TRANSMIT, 1 << TRANSMIT);
    assert_eq!(setting.process(TRANSMIT), [0]);

    setting.driver = Driver::new(&memory);
    setting.offer_buffers(64, 1536);
    for _ in 0..3 {
        setting.arrive(60);
    }
    assert_eq!(setting.process(RECEIVE), [72, 72]);
    assert_eq!(setting.net.ready_queues() & 1 << RECEIVE, 0);
    assert!(hands[0].turn(Duration::from_secs(1)));
    setting.net.handle_event(RECEIVE_THROTTLE, Readiness { readable: true, writable: false });
    assert_eq!(setting.net.ready_queues() & 1 << RECEIVE, 1 << RECEIVE);
    assert_eq!(setting.process(RECEIVE), [72]);
}

#[test]
fn what_arrives_before_the_driver_waits_for_it() {
    let memory = Driver::memory();
    let mut setting = Setting::without(&memory, &[]);
    setting.net.reset();
    setting.arrive(60);
    assert_eq!(setting.net.ready_queues(), 0);
    setting.net.activate(setting.net.features());
    assert_eq!(setting.net.ready_queues(), 1 << RECEIVE);
}
