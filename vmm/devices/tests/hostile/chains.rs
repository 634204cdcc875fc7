//! Chains that are no requests: every device gives them back or gives itself up, soon, and without
//! holding more memory than a request may cost.

use std::time::{Duration, Instant};

use allocation_counter::measure;
use virtio_queue::desc::split::Descriptor;

use crate::guest::{Guest, INDIRECT, NEXT, WRITE, memory, status};
use crate::subject::{Subject, all};

/// Bytes that a device may hold at once for one bad chain: lists of a bounded number of pieces.
const HELD_MAX: u64 = 1 << 20;

/// How long a bad chain may keep the device's thread; far above what any takes.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Where tables of indirect descriptors lie.
const TABLE: u64 = 0x20_0000;

/// What a driver puts into a queue.
type Attack = fn(&mut Guest, usize);

/// Puts each attack into each queue of each device.
fn survived(attacks: &[(&str, Attack)]) {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::new(device, memory());
        for (attack, act) in attacks {
            for index in 0..guest.queue_count() {
                guest.bring_up();
                let start = Instant::now();
                let held = measure(|| {
                    act(&mut guest, index);
                    guest.kick(index);
                });
                let context = format!("{name}, queue {index}: {attack}");
                assert!(held.bytes_max <= HELD_MAX, "{context} held {} bytes", held.bytes_max);
                assert!(start.elapsed() < TIME_MAX, "{context} took {:?}", start.elapsed());
                let broken = guest.needs_reset();
                assert!(broken || guest.status() == status::LIVE, "{context}");
            }
        }
        guest.bring_up();
        assert_eq!(guest.status(), status::LIVE, "{name} works again");
        unharmed();
    }
}

#[test]
fn chains_that_lead_back_to_themselves_end() {
    survived(&[
        ("its own successor", |guest, index| {
            guest.store(index, 0, Descriptor::new(0x1000, 16, NEXT, 0));
            guest.offer_head(index, 0);
        }),
        ("its own successor, writable", |guest, index| {
            guest.store(index, 0, Descriptor::new(0x1000, 16, NEXT | WRITE, 0));
            guest.offer_head(index, 0);
        }),
        ("all descriptors in a circle", |guest, index| {
            let size = guest.size(index);
            for place in 0..size {
                let next = (place + 1) % size;
                guest.store(index, place, Descriptor::new(0x1000, 4096, NEXT | WRITE, next));
            }
            guest.offer_head(index, 0);
        }),
        ("a chain with a loop at its end", |guest, index| {
            guest.store(index, 0, Descriptor::new(0x1000, 16, NEXT, 1));
            guest.store(index, 1, Descriptor::new(0x2000, 0, NEXT, 2));
            guest.store(index, 2, Descriptor::new(0x3000, 1, NEXT, 1));
            guest.offer_head(index, 0);
        }),
        ("the same circle offered as often as there is room", |guest, index| {
            guest.store(index, 0, Descriptor::new(0x1000, 1, NEXT, 0));
            (0..guest.size(index)).for_each(|_| guest.offer_head(index, 0));
        }),
        ("a successor that is none", |guest, index| {
            guest.store(index, 0, Descriptor::new(0x1000, 16, NEXT, u16::MAX));
            guest.offer_head(index, 0);
        }),
    ]);
}

#[test]
fn lengths_of_nothing_and_of_four_gib_are_given_back() {
    survived(&[
        ("nothing to read", |guest, index| {
            guest.offer(index, &[(0x1000, 0, false)]);
        }),
        ("nothing to write", |guest, index| {
            guest.offer(index, &[(0x1000, 0, true)]);
        }),
        ("nothing, often", |guest, index| {
            let parts = vec![(0x1000, 0, true); usize::from(guest.size(index))];
            guest.offer(index, &parts);
        }),
        ("four GiB to read", |guest, index| {
            guest.offer(index, &[(0x1000, u32::MAX, false)]);
        }),
        ("four GiB to write", |guest, index| {
            guest.offer(index, &[(0x1000, u32::MAX, true)]);
        }),
        ("four GiB in every descriptor", |guest, index| {
            let parts = vec![(0, u32::MAX, true); usize::from(guest.size(index))];
            guest.offer(index, &parts);
        }),
        ("all memory in every descriptor", |guest, index| {
            let parts = vec![(0, 1 << 20, true); usize::from(guest.size(index))];
            guest.offer(index, &parts);
        }),
        ("all memory in every descriptor, to read", |guest, index| {
            let parts = vec![(0, 1 << 20, false); usize::from(guest.size(index))];
            guest.offer(index, &parts);
        }),
    ]);
}

#[test]
fn addresses_outside_memory_are_given_back() {
    survived(&[
        ("in the hole", |guest, index| {
            guest.offer(index, &[(5 << 20, 16, false), (5 << 20, 16, true)]);
        }),
        ("across the end of a region", |guest, index| {
            guest.offer(index, &[((4 << 20) - 8, 16, false), ((4 << 20) - 8, 16, true)]);
        }),
        ("across the end of memory", |guest, index| {
            guest.offer(index, &[((9 << 20) - 8, 16, true)]);
        }),
        ("around the end of the address space", |guest, index| {
            guest.offer(index, &[(u64::MAX, 16, false), (u64::MAX - 7, 16, true)]);
        }),
        ("four GiB from the last address", |guest, index| {
            guest.offer(index, &[(u64::MAX, u32::MAX, true)]);
        }),
        ("something to read behind something to write", |guest, index| {
            guest.offer(index, &[(0x1000, 16, true), (0x2000, 16, false)]);
        }),
    ]);
}

/// A table of `count` descriptors, each followed by the next, with `flags` besides; offered.
fn table(guest: &mut Guest, index: usize, count: u16, length: u32, flags: u16) {
    for place in 0..count {
        let next = place.wrapping_add(1);
        let descriptor = Descriptor::new(0x1000, 64, NEXT | flags, next);
        guest.store_at(TABLE + 16 * u64::from(place), descriptor);
    }
    let head = guest.descriptor(index, TABLE, length, INDIRECT);
    guest.offer_head(index, head);
}

#[test]
fn indirect_tables_of_every_wrong_kind_are_survived() {
    survived(&[
        ("indirect in indirect", |guest, index| table(guest, index, 4, 64, INDIRECT)),
        ("a table in itself", |guest, index| {
            guest.store_at(TABLE, Descriptor::new(TABLE, 16, INDIRECT, 0));
            let head = guest.descriptor(index, TABLE, 16, INDIRECT);
            guest.offer_head(index, head);
        }),
        ("an empty table", |guest, index| table(guest, index, 4, 0, 0)),
        ("half a descriptor", |guest, index| table(guest, index, 4, 24, 0)),
        ("a table that ends before its chain", |guest, index| table(guest, index, 4, 32, 0)),
        ("a table outside memory", |guest, index| {
            let head = guest.descriptor(index, 6 << 20, 64, INDIRECT);
            guest.offer_head(index, head);
        }),
        ("a table across the end of memory", |guest, index| {
            let head = guest.descriptor(index, (4 << 20) - 32, 64, INDIRECT);
            guest.offer_head(index, head);
        }),
        ("a table of four GiB", |guest, index| table(guest, index, 4, u32::MAX - 15, 0)),
        ("a table of 65535", |guest, index| table(guest, index, u16::MAX, 16 * 65_535, WRITE)),
        ("a table of 65535, many times", |guest, index| {
            table(guest, index, u16::MAX, 16 * 65_535, 0);
            (0..guest.size(index) - 1).for_each(|_| guest.offer_head(index, 0));
        }),
        ("a table that goes on", |guest, index| {
            table(guest, index, 2, 32, 0);
            let head = guest.descriptor(index, TABLE, 32, INDIRECT | NEXT);
            guest.offer_head(index, head);
        }),
        ("a writable table", |guest, index| {
            let head = guest.descriptor(index, TABLE, 32, INDIRECT | WRITE);
            guest.offer_head(index, head);
        }),
        ("a table in the rings", |guest, index| {
            let head = guest.descriptor(index, Guest::rings(index), 64, INDIRECT);
            guest.offer_head(index, head);
        }),
    ]);
}

#[test]
fn rings_that_lie_about_what_they_hold_are_survived() {
    survived(&[
        ("more chains than there are entries", |guest, index| guest.claim(index, u16::MAX)),
        ("one more than there are entries", |guest, index| {
            let size = guest.size(index);
            guest.claim(index, size + 1);
        }),
        ("heads that are none", |guest, index| {
            for head in [guest.size(index), 0x8000, u16::MAX] {
                guest.offer_head(index, head);
            }
        }),
        ("the same head in every entry", |guest, index| {
            guest.store(index, 0, Descriptor::new(0x1000, 64, WRITE, 0));
            (0..guest.size(index)).for_each(|_| guest.offer_head(index, 0));
        }),
        ("buffers in the rings themselves", |guest, index| {
            let rings = Guest::rings(index);
            guest.offer(index, &[(rings, 0x3000, true)]);
            guest.offer(index, &[(rings, 16, false), (rings, 0x3000, true)]);
        }),
        ("an index that goes back", |guest, index| {
            guest.offer(index, &[(0x1000, 64, true)]);
            guest.kick(index);
            guest.claim(index, 0);
        }),
    ]);
}

#[test]
fn a_broken_queue_is_told_and_stays_silent_until_the_reset() {
    for Subject { name, device, .. } in all() {
        let mut guest = Guest::live(device, memory());
        let before = guest.interrupts.count();
        guest.claim(0, u16::MAX);
        guest.kick(0);
        assert!(guest.needs_reset(), "{name}");
        assert_eq!(guest.interrupts.count(), before + 1, "{name}: the driver is told once");
        let still = guest.bytes(Guest::used_ring(0), 0x1000);
        for _ in 0..100 {
            guest.offer(0, &[(0x1000, 64, true)]);
            guest.kick(0);
        }
        assert!(guest.bytes(Guest::used_ring(0), 0x1000) == still, "{name} is silent");
        assert_eq!(guest.interrupts.count(), before + 1, "{name} is silent");
    }
}
