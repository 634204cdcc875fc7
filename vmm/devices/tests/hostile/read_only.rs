//! What is read-only stays so, whatever the guest asks and wherever it points.

use crate::guest::{Guest, memory, register, status};
use crate::subject::{Subject, all, bytes, content, disk};

const HEADER: u64 = 0x1000;
const STATUS: u64 = 0x1800;
const DATA: u64 = 0x2000;

#[test]
fn no_request_of_any_type_changes_a_read_only_disk() {
    let (device, file) = disk(true);
    let mut guest = Guest::live(device, memory());
    for kind in (0..32).chain([0x8000_0001, u32::MAX]) {
        for sector in [0_u64, 1, 127, 128] {
            guest.bring_up();
            guest.put(HEADER, &kind.to_le_bytes());
            guest.put(HEADER + 8, &sector.to_le_bytes());
            // One range from sector zero, which is data to a write.
            guest.put(DATA, &[0; 512]);
            guest.put(DATA + 8, &[1]);
            for length in [16, 512] {
                guest.offer(0, &[(HEADER, 16, false), (DATA, length, false), (STATUS, 1, true)]);
            }
            guest.kick(0);
            assert_eq!(guest.used(0).len(), 2, "type {kind}");
        }
    }
    assert!(bytes(&file) == content(), "the file is as it was");
}

#[test]
fn a_driver_that_did_not_take_the_read_only_feature_changes_nothing_either() {
    let (device, file) = disk(true);
    let mut guest = Guest::new(device, memory());
    guest.reset();
    guest.climb(2);
    // Version 1 only: no read-only bit, no event indices.
    guest.write(register::DRIVER_FEATURES_SEL, 1);
    guest.write(register::DRIVER_FEATURES, 1);
    guest.write(register::STATUS, 11);
    guest.set_up(0);
    guest.write(register::STATUS, status::LIVE);
    assert_eq!(guest.status(), status::LIVE);
    guest.put(HEADER, &1_u64.to_le_bytes());
    guest.put(HEADER + 8, &0_u64.to_le_bytes());
    guest.offer(0, &[(HEADER, 16, false), (DATA, 512, false), (STATUS, 1, true)]);
    guest.kick(0);
    assert_eq!(guest.bytes(STATUS, 1), [1], "the write fails");
    assert!(bytes(&file) == content(), "the file is as it was");
}

#[test]
fn what_lies_outside_the_devices_memory_is_out_of_their_reach() {
    // A persistent-memory window is mapped into the guest, not into what devices see: an address
    // in it is no memory, neither for rings nor for buffers.
    let window = 64 << 20;
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::new(device, memory());
        guest.reset();
        guest.climb(3);
        let rings = Guest::rings(0);
        assert!(!guest.place(0, 8, rings, rings + 0x1000, window), "{name}: a used ring there");
        guest.bring_up();
        for index in 0..guest.queue_count() {
            guest.offer(index, &[(window, 4096, true)]);
            guest.kick(index);
        }
        unharmed();
    }
}
