//! The register window: anything, at any time, in any width.

use crate::guest::{Guest, memory, register, status};
use crate::subject::{Subject, all};

/// Stages of the initialisation, from an untouched device to a live one.
const STAGES: usize = status::STAGES.len();

/// Registers that describe a queue.
const QUEUE_REGISTERS: [u64; 7] = [
    register::QUEUE_NUM,
    register::QUEUE_DESC,
    register::QUEUE_DESC + 4,
    register::QUEUE_AVAIL,
    register::QUEUE_AVAIL + 4,
    register::QUEUE_USED,
    register::QUEUE_USED + 4,
];

/// After whatever was done, a reset gives a device that works as if new.
fn recovers(guest: &mut Guest, name: &str) {
    guest.bring_up();
    assert_eq!(guest.status(), status::LIVE, "{name} is live again");
    for index in 0..guest.queue_count() {
        guest.kick(index);
    }
    assert!(!guest.needs_reset(), "{name} works");
}

#[test]
fn queue_registers_written_after_driver_ok_move_nothing_and_end_the_device() {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::live(device, memory());
        for index in 0..guest.queue_count() {
            for register in QUEUE_REGISTERS {
                for value in [0, 0x10_0000, 0x7fff_fff0, u32::MAX] {
                    guest.bring_up();
                    // A chain waits in the queue as it was frozen; the other place holds marks.
                    guest.put(0x10_0000, &[0xa5; 0x3000]);
                    guest.write(register::QUEUE_SEL, u32::try_from(index).unwrap());
                    guest.write(register, value);
                    guest.offer(index, &[(0x1000, 64, true)]);
                    guest.kick(index);
                    assert!(guest.needs_reset(), "{name}: {register:#x} = {value:#x}");
                    assert!(guest.used(index).is_empty(), "{name}: a device that gave up is still");
                    assert_eq!(guest.bytes(0x10_0000, 0x3000), [0xa5; 0x3000], "{name}");
                }
            }
        }
        recovers(&mut guest, name);
        unharmed();
    }
}

#[test]
fn a_ready_queue_keeps_its_place_before_driver_ok_as_well() {
    for Subject { name, device, .. } in all() {
        let mut guest = Guest::new(device, memory());
        guest.reset();
        guest.climb(3);
        (0..guest.queue_count()).for_each(|index| guest.set_up(index));
        guest.write(register::QUEUE_SEL, 0);
        for register in QUEUE_REGISTERS {
            guest.write(register, 0x10_0000);
        }
        guest.put(0x10_0000, &[0xa5; 0x3000]);
        guest.write(register::STATUS, status::LIVE);
        guest.serve();
        guest.offer(0, &[(0x1000, 64, true)]);
        guest.kick(0);
        assert_eq!(guest.bytes(0x10_0000, 0x3000), [0xa5; 0x3000], "{name} stays where it was");
    }
}

#[test]
fn every_status_from_every_stage_is_survived() {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::new(device, memory());
        for stage in 0..=STAGES {
            for value in (0..=0xff).chain([0x100, 0x10f, 0x8000_000f, u32::MAX]) {
                guest.reset();
                guest.climb(stage);
                guest.write(register::STATUS, value);
                guest.serve();
                for index in 0..guest.queue_count() {
                    guest.kick(index);
                }
                let live = guest.status() == status::LIVE;
                let legal = stage + 1 == STAGES && value == status::LIVE;
                assert!(!live || legal || stage == STAGES, "{name}: {stage} -> {value:#x}");
            }
        }
        recovers(&mut guest, name);
        unharmed();
    }
}

#[test]
fn a_device_is_never_live_without_its_features_agreed() {
    for Subject { name, device, .. } in all() {
        let mut guest = Guest::new(device, memory());
        for (word, features) in [(0, u32::MAX), (1, u32::MAX), (2, 1), (1, 0)] {
            guest.reset();
            guest.climb(2);
            guest.write(register::DRIVER_FEATURES_SEL, word);
            guest.write(register::DRIVER_FEATURES, features);
            for value in [11, 15] {
                guest.write(register::STATUS, value);
            }
            assert_ne!(guest.status() & 0xf, status::LIVE, "{name}: {word} {features:#x}");
        }
        recovers(&mut guest, name);
    }
}

#[test]
fn every_width_at_every_offset_is_survived_in_every_stage() {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::new(device, memory());
        for stage in 0..=STAGES {
            guest.reset();
            guest.climb(stage);
            for offset in (0..0x220).chain(0xff0..0x1010).chain([u64::MAX - 1, u64::MAX]) {
                for width in 0..=9 {
                    let mut bytes = vec![0xee; width];
                    guest.transport.read(offset, &mut bytes);
                    let aligned = matches!(width, 1 | 2 | 4) && offset % width as u64 == 0;
                    let config = offset >= register::CONFIG && width > 0;
                    if !aligned || (!config && width != 4) {
                        assert!(bytes.iter().all(|&byte| byte == 0), "{name}: {offset:#x}/{width}");
                    }
                    for byte in [0x00, 0x01, 0x0f, 0xff] {
                        guest.transport.write(offset, &vec![byte; width]);
                    }
                }
                guest.serve();
            }
        }
        recovers(&mut guest, name);
        unharmed();
    }
}

#[test]
fn registers_of_queues_that_are_none_do_nothing() {
    for Subject { name, device, .. } in all() {
        let guest = Guest::live(device, memory());
        for index in [u32::try_from(guest.queue_count()).unwrap(), 31, 32, 255, u32::MAX] {
            guest.write(register::QUEUE_SEL, index);
            assert_eq!(guest.read(register::QUEUE_NUM_MAX), 0, "{name}: queue {index}");
            assert_eq!(guest.read(register::QUEUE_READY), 0, "{name}: queue {index}");
            guest.write(register::QUEUE_NOTIFY, index);
            guest.write(register::QUEUE_READY, 0);
            guest.serve();
        }
        assert_eq!(guest.status(), status::LIVE, "{name} is not disturbed");
    }
}

#[test]
fn the_configuration_space_ends_and_answers_nothing_behind_that() {
    for Subject { name, device, .. } in all() {
        let guest = Guest::live(device, memory());
        for offset in (register::CONFIG + 0x200..0x1000).step_by(4) {
            assert_eq!(guest.read(offset), 0, "{name}: {offset:#x}");
            guest.write(offset, u32::MAX);
        }
        assert_eq!(guest.status(), status::LIVE);
        let generation = guest.read(register::CONFIG_GENERATION);
        assert_eq!(guest.read(register::CONFIG_GENERATION), generation);
    }
}

#[test]
fn interrupts_acknowledged_without_cause_are_none() {
    for Subject { name, device, .. } in all() {
        let guest = Guest::live(device, memory());
        let before = guest.interrupts.count();
        for value in [0, 1, 2, 3, u32::MAX] {
            guest.write(register::INTERRUPT_ACK, value);
            assert_eq!(guest.read(register::INTERRUPT_STATUS) & value, 0, "{name}");
        }
        assert_eq!(guest.interrupts.count(), before, "{name}");
    }
}
