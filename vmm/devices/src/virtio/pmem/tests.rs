//! A driver that reads the place and flushes.

use vm_memory::{Bytes, GuestAddress};

use super::Pmem;
use crate::virtio::Device;
use crate::virtio::driver::Driver;

const REQUEST: u64 = 0x1000;
const ANSWER: u64 = 0x2000;

fn ask(request: u32, parts: &[(u64, u32, bool)]) -> (u32, u32) {
    let memory = Driver::memory();
    let mut driver = Driver::new(&memory);
    memory.write_obj(request, GuestAddress(REQUEST)).unwrap();
    memory.write_obj(u32::MAX, GuestAddress(ANSWER)).unwrap();
    driver.offer(parts);
    let served = Pmem::new(0, 4096).process(0, &mut driver.queue, &memory);
    assert!(served.unwrap().used);
    (driver.used()[0], memory.read_obj(GuestAddress(ANSWER)).unwrap())
}

#[test]
fn the_place_is_in_the_configuration_space() {
    let pmem = Pmem::new(0x1_4000_0000, 0x20_0000);
    let mut space = [0; 20];
    pmem.read_config(0, &mut space);
    assert_eq!(space[..8], 0x1_4000_0000_u64.to_le_bytes());
    assert_eq!(space[8..16], 0x20_0000_u64.to_le_bytes());
    assert_eq!(space[16..], [0; 4]);
}

#[test]
fn a_flush_succeeds_however_it_is_cut() {
    assert_eq!(ask(0, &[(REQUEST, 4, false), (ANSWER, 4, true)]), (4, 0));
    let parts =
        [(REQUEST, 1, false), (REQUEST + 1, 3, false), (ANSWER, 2, true), (ANSWER + 2, 2, true)];
    assert_eq!(ask(0, &parts), (4, 0));
}

#[test]
fn anything_else_fails_or_comes_back_unanswered() {
    assert_eq!(ask(7, &[(REQUEST, 4, false), (ANSWER, 4, true)]), (4, 1));
    assert_eq!(ask(0, &[(REQUEST, 3, false), (ANSWER, 4, true)]), (4, 1));
    assert_eq!(ask(0, &[(REQUEST, 4, false), (ANSWER, 3, true)]), (0, u32::MAX));
    assert_eq!(ask(0, &[(REQUEST, u32::MAX, false), (ANSWER, 4, true)]), (0, u32::MAX));
    assert_eq!(ask(0, &[(1 << 40, 4, false), (ANSWER, 4, true)]), (0, u32::MAX));
}
