//! The network device between any driver and a tap that checks what it is handed.

#![no_main]

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use arbitrary::Arbitrary;
use husk_devices::virtio::net::{
    Backend, FRAME_LENGTH_MAX, HEADER_LENGTH, Net, Offload, PIECES_MAX, TAP,
};
use husk_devices::virtio::{Buffers, Device, Readiness};
use husk_fuzz::{ACTIONS_MAX, Action, Driver, MEBIBYTE, bounded};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Bytes of a header and the Ethernet header behind it.
const FRONT: usize = HEADER_LENGTH + 14;

#[derive(Arbitrary, Debug)]
enum Step {
    /// Whatever a driver can do.
    Driver(Action),
    /// Frames of those lengths wait at the tap.
    Frames(Vec<u16>),
    /// The tap takes so many frames more.
    Room(u8),
    /// Buffers for frames, as a good driver offers them.
    Buffers { count: u8, length: u16 },
    /// A frame of the guest with that header, under its own address or another.
    Send { header: [u8; 12], length: u16, cut: u16, foreign: bool },
    /// Frames are read or sent no more.
    Failing(bool),
}

#[derive(Default)]
struct State {
    frames: VecDeque<usize>,
    room: usize,
    failing: bool,
    sent: usize,
    last: usize,
}

#[derive(Clone, Default)]
struct Tap(Arc<Mutex<State>>);

impl Tap {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("one thread")
    }
}

impl Backend for Tap {
    fn read(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        assert!(buffers.len() <= PIECES_MAX, "no more pieces than one call takes");
        let mut state = self.state();
        if state.failing {
            return Err(io::ErrorKind::Other.into());
        }
        let length = state.frames.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let buffers = Buffers::from(buffers.to_vec());
        assert!(buffers.len() >= HEADER_LENGTH, "there is room for a header");
        let length = length.min(buffers.len());
        Ok(buffers.copy_from(&vec![0x6e; length]))
    }

    fn write(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
        assert!(buffers.len() <= PIECES_MAX, "no more pieces than one call takes");
        let buffers = Buffers::from(buffers.to_vec());
        assert!((FRONT..=FRAME_LENGTH_MAX).contains(&buffers.len()), "a frame of a sound length");
        let mut front = [0; FRONT];
        buffers.copy_to(&mut front);
        assert_eq!(front[HEADER_LENGTH + 6..HEADER_LENGTH + 12], MAC, "under its own address");
        let mut state = self.state();
        if state.failing {
            return Err(io::ErrorKind::Other.into());
        }
        state.room = state.room.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        state.sent += 1;
        state.last = buffers.len();
        Ok(())
    }

    fn set_offload(&mut self, _offload: Offload) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|steps: Vec<Step>| {
    bounded(8 * MEBIBYTE, || {
        let tap = Tap::default();
        let mut driver = Driver::new(Net::new(tap.clone(), MAC, 1500));
        for step in steps.iter().take(ACTIONS_MAX) {
            act(&mut driver, &tap, step);
        }
        honest_frame(&mut driver, &tap);
    });
});

fn act(driver: &mut Driver<Net<Tap>>, tap: &Tap, step: &Step) {
    match step {
        Step::Driver(action) => driver.act(action),
        Step::Frames(lengths) => {
            tap.state().frames.extend(lengths.iter().take(64).map(|&length| usize::from(length)));
            ready(driver);
        }
        Step::Room(count) => {
            tap.state().room += usize::from(*count);
            ready(driver);
        }
        Step::Buffers { count, length } => {
            for place in 0..count % 32 {
                let address = 0x4_0000 + 0x800 * u64::from(place);
                driver.offer_at(RECEIVE, &[(address, (*length).into(), true)]);
            }
            driver.kick(RECEIVE);
        }
        Step::Send { header, length, cut, foreign } => {
            send(driver, header, *length, *cut, *foreign);
        }
        Step::Failing(failing) => tap.state().failing = *failing,
    }
}

fn ready(driver: &mut Driver<Net<Tap>>) {
    driver.device.handle_event(TAP, Readiness { readable: true, writable: true });
    driver.poll();
}

fn send(driver: &mut Driver<Net<Tap>>, header: &[u8; 12], length: u16, cut: u16, foreign: bool) {
    let memory = driver.memory();
    memory.write_slice(header, GuestAddress(0x8000)).expect("memory");
    let sender = if foreign { [6; 6] } else { MAC };
    memory.write_slice(&sender, GuestAddress(0x8000 + 12 + 6)).expect("memory");
    let length = u32::from(length);
    let cut = u32::from(cut).min(length);
    let parts = [(0x8000, cut, false), (0x8000 + u64::from(cut), length - cut, false)];
    driver.offer_at(TRANSMIT, &parts);
    driver.kick(TRANSMIT);
}

/// After all that, a plain frame passes as it should.
fn honest_frame(driver: &mut Driver<Net<Tap>>, tap: &Tap) {
    driver.act(&Action::Reset(false));
    {
        let mut state = tap.state();
        state.failing = false;
        state.room = 1;
    }
    let before = tap.state().sent;
    send(driver, &[0; 12], 1526, 30, false);
    let state = tap.state();
    assert_eq!((state.sent - before, state.last), (1, 1526), "the frame went out whole");
}
