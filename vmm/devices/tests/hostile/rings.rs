//! Rings where no rings can be.

use crate::guest::{Guest, RINGS, memory, register, status};
use crate::subject::{Subject, all};

/// Four MiB of memory from zero, a hole up to eight, one MiB more.
const HOLE: u64 = 4 << 20;
const HIGH: u64 = 8 << 20;
const END: u64 = 9 << 20;

/// Tries to start queue 0 of every device in that place; it must not start, nothing may change,
/// and the device must recover.
fn refused(size: u32, table: u64, available: u64, used: u64) {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::new(device, memory());
        guest.reset();
        guest.climb(3);
        let before = guest.bytes(0, 4 << 20);
        let place = format!("{name}: {size} at {table:#x} {available:#x} {used:#x}");
        assert!(!guest.place(0, size, table, available, used), "{place}");
        guest.write(register::STATUS, status::LIVE);
        guest.write(register::QUEUE_NOTIFY, 0);
        guest.serve();
        assert!(guest.bytes(0, 4 << 20) == before, "{place}: memory changed");
        guest.bring_up();
        unharmed();
    }
}

#[test]
fn rings_outside_memory_never_start() {
    let good = (RINGS, RINGS + 0x1000, RINGS + 0x2000);
    for bad in [HOLE, HOLE + 0x1000, HIGH - 16, END, 1 << 40, u64::MAX - 15, !0xfff] {
        refused(8, bad, good.1, good.2);
        refused(8, good.0, bad & !1, good.2);
        refused(8, good.0, good.1, bad & !3);
    }
}

#[test]
fn rings_that_begin_in_memory_and_leave_it_never_start() {
    let good = (RINGS, RINGS + 0x1000, RINGS + 0x2000);
    for end in [HOLE, END] {
        refused(64, end - 0x3f0, good.1, good.2);
        refused(64, good.0, end - 0x84, good.2);
        refused(64, good.0, good.1, end - 0x204);
    }
}

#[test]
fn rings_up_to_the_last_byte_of_memory_do_start() {
    for Subject { name, device, .. } in all() {
        let mut guest = Guest::new(device, memory());
        guest.reset();
        guest.climb(3);
        let used = END - (6 + 8 * 8) - 2;
        assert!(guest.place(0, 8, HOLE - 128, END - 0x200, used), "{name}");
    }
}

#[test]
fn overlapping_rings_never_start() {
    refused(8, RINGS, RINGS, RINGS + 0x1000);
    refused(8, RINGS, RINGS + 0x1000, RINGS);
    refused(8, RINGS, RINGS + 0x1000, RINGS + 0x1000);
    refused(8, RINGS, RINGS + 0x1000, RINGS + 0x100c);
    refused(8, RINGS, RINGS + 126, RINGS + 0x1000);
    refused(8, RINGS + 16, RINGS, RINGS + 0x1000);
}

#[test]
fn two_queues_in_the_same_place_never_both_start() {
    for Subject { name, device, .. } in all() {
        let mut guest = Guest::new(device, memory());
        guest.reset();
        guest.climb(3);
        if guest.queue_count() < 2 {
            continue;
        }
        assert!(guest.place(0, 8, RINGS, RINGS + 0x1000, RINGS + 0x2000), "{name}");
        assert!(!guest.place(1, 8, RINGS, RINGS + 0x1000, RINGS + 0x2000), "{name}");
        assert!(!guest.place(1, 8, RINGS + 0x3000, RINGS + 0x2000, RINGS + 0x3800), "{name}");
    }
}

#[test]
fn rings_that_are_not_aligned_never_start() {
    refused(8, RINGS + 8, RINGS + 0x1000, RINGS + 0x2000);
    refused(8, RINGS + 1, RINGS + 0x1000, RINGS + 0x2000);
    refused(8, RINGS, RINGS + 0x1001, RINGS + 0x2000);
    refused(8, RINGS, RINGS + 0x1000, RINGS + 0x2002);
}

#[test]
fn sizes_that_are_none_never_start() {
    for size in [0, 3, 5, 100, 0x8000, 0x1_0000, 0x1_0008, u32::MAX] {
        refused(size, RINGS, RINGS + 0x1_0000, RINGS + 0x2_0000);
    }
}

#[test]
fn a_queue_larger_than_the_device_offers_never_starts() {
    for Subject { name, device, .. } in all() {
        let mut guest = Guest::new(device, memory());
        guest.reset();
        guest.climb(3);
        let size = 2 * guest.size_max(0);
        assert!(!guest.place(0, size, RINGS, RINGS + 0x1_0000, RINGS + 0x2_0000), "{name}");
    }
}

#[test]
fn a_driver_that_is_ready_without_queues_reaches_nothing() {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::new(device, memory());
        guest.reset();
        guest.climb(3);
        guest.write(register::STATUS, status::LIVE);
        let before = guest.bytes(0, 4 << 20);
        for index in 0..guest.queue_count() {
            guest.kick(index);
            guest.event(0);
            guest.event(u32::MAX);
        }
        assert!(guest.bytes(0, 4 << 20) == before, "{name}: memory changed");
        unharmed();
    }
}
