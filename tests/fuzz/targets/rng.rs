//! The entropy device: whatever is asked for, only what was asked for is filled.

#![no_main]

use std::io;

use husk_devices::virtio::rng::{Backend, Rng};
use husk_fuzz::{ACTIONS_MAX, Action, Driver, MEBIBYTE, bounded};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};

/// Bytes that one request receives at most.
const ANSWER_MAX: u32 = 64 << 10;

/// A source that fails every so often.
struct Entropy {
    calls: u32,
}

impl Backend for Entropy {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.calls += 1;
        if self.calls % 13 == 0 {
            return Err(io::ErrorKind::Other.into());
        }
        bytes.fill(0x77);
        Ok(())
    }
}

fuzz_target!(|input: (Vec<Action>, u16, u16)| {
    let (actions, length, cut) = input;
    bounded(4 * MEBIBYTE, || {
        let mut driver = Driver::new(Rng::new(Entropy { calls: 0 }));
        for action in actions.iter().take(ACTIONS_MAX) {
            driver.act(action);
        }
        honest_request(&mut driver, length, cut);
    });
});

/// After all that, a request as it should be is answered as it should be.
fn honest_request(driver: &mut Driver<Rng<Entropy>>, length: u16, cut: u16) {
    driver.act(&Action::Reset(false));
    let memory = driver.memory();
    memory.write_slice(&[0; 0x1_0001], GuestAddress(0x8000)).unwrap();
    let (length, cut) = (u32::from(length), u32::from(cut.min(length)));
    let parts = [(0x8000, cut, true), (0x8000 + u64::from(cut), length - cut, true)];
    driver.offer_at(0, &parts);
    driver.kick(0);
    let [(_, used)] = driver.used(0)[..] else { panic!("one chain, one answer") };
    assert!(used <= length.min(ANSWER_MAX));
    let mut bytes = vec![0; 0x1_0001];
    memory.read_slice(&mut bytes, GuestAddress(0x8000)).unwrap();
    let (filled, rest) = bytes.split_at(used as usize);
    assert!(filled.iter().all(|&byte| byte == 0x77), "what is told was written");
    assert!(rest.iter().all(|&byte| byte == 0), "and nothing behind it");
}
