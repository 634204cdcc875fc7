//! The console device: output without end stays bounded, input arrives in order.

#![no_main]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use arbitrary::Arbitrary;
use husk_devices::virtio::console::{Backend, Console, Ring};
use husk_fuzz::{ACTIONS_MAX, Action, Driver, MEBIBYTE, bounded};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Bytes of output that are kept.
const KEPT: usize = 512;

#[derive(Arbitrary, Debug)]
enum Step {
    /// Whatever a driver can do.
    Driver(Action),
    /// Somebody types.
    Type(Vec<u8>),
    /// A program in the guest prints, in two buffers.
    Print(Vec<u8>, u8),
    /// The guest reads, with a buffer of that length.
    Read(u16),
}

#[derive(Default)]
struct Terminal {
    typed: VecDeque<u8>,
    shown: Option<Ring>,
    written: u64,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<RefCell<Terminal>>>);

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Terminal) -> T) -> T {
        act(&mut self.0.lock().unwrap().borrow_mut())
    }
}

impl Backend for Shared {
    fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= 4096, "a few KiB at a time");
        self.with(|terminal| {
            terminal.written += bytes.len() as u64;
            terminal.shown.get_or_insert_with(|| Ring::new(KEPT)).push(bytes);
        });
    }

    fn read(&mut self, bytes: &mut [u8]) -> usize {
        self.with(|terminal| {
            let count = bytes.len().min(terminal.typed.len());
            for (place, byte) in bytes.iter_mut().zip(terminal.typed.drain(..count)) {
                *place = byte;
            }
            count
        })
    }

    fn is_readable(&self) -> bool {
        self.with(|terminal| !terminal.typed.is_empty())
    }
}

fuzz_target!(|steps: Vec<Step>| {
    bounded(4 * MEBIBYTE, || {
        let shared = Shared(Arc::default());
        let mut driver = Driver::new(Console::new(shared.clone()));
        for step in steps.iter().take(ACTIONS_MAX) {
            match step {
                Step::Driver(action) => driver.act(action),
                Step::Type(bytes) => {
                    shared.with(|terminal| terminal.typed.extend(bytes));
                    driver.poll();
                }
                Step::Print(bytes, cut) => print(&mut driver, &shared, bytes, (*cut).into()),
                Step::Read(length) => read(&mut driver, &shared, *length),
            }
        }
        let text = shared.with(|terminal| terminal.shown.as_ref().map(Ring::text));
        // Bytes that are no UTF-8 become marks of three bytes.
        assert!(text.unwrap_or_default().len() <= 3 * KEPT);
    });
});

/// An honest guest's output arrives whole.
fn print(driver: &mut Driver<Console<Shared>>, shared: &Shared, bytes: &[u8], cut: usize) {
    driver.act(&Action::Reset(false));
    let bytes = &bytes[..bytes.len().min(0x4000)];
    driver.memory().write_slice(bytes, GuestAddress(0x9000)).unwrap();
    let cut = cut.min(bytes.len());
    let length = |count: usize| u32::try_from(count).unwrap();
    let parts =
        [(0x9000, length(cut), false), (0x9000 + cut as u64, length(bytes.len() - cut), false)];
    let before = shared.with(|terminal| terminal.written);
    driver.offer_at(TRANSMIT, &parts);
    driver.kick(TRANSMIT);
    assert_eq!(driver.used(TRANSMIT).len(), 1, "the buffer comes back");
    assert_eq!(shared.with(|terminal| terminal.written) - before, bytes.len() as u64);
}

/// An honest guest's buffer receives what was typed, in order and no more.
fn read(driver: &mut Driver<Console<Shared>>, shared: &Shared, length: u16) {
    driver.act(&Action::Reset(false));
    let typed: Vec<u8> = shared.with(|terminal| terminal.typed.iter().copied().collect());
    driver.offer_at(RECEIVE, &[(0x9000, length.into(), true)]);
    driver.kick(RECEIVE);
    let used = driver.used(RECEIVE);
    if typed.is_empty() {
        assert!(used.is_empty(), "the buffer waits");
        return;
    }
    let [(_, count)] = used[..] else { panic!("one buffer, used once") };
    assert!(count <= length.into());
    let mut bytes = vec![0; count as usize];
    driver.memory().read_slice(&mut bytes, GuestAddress(0x9000)).unwrap();
    assert_eq!(bytes, typed[..bytes.len()]);
}
