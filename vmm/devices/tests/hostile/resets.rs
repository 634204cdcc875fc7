//! Resets while there is work: nothing of it is finished afterwards, and nothing is left behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use allocation_counter::measure;
use husk_devices::virtio::vsock::Vsock;

use crate::growth::{packet, request};
use crate::guest::{Guest, memory, register, status};
use crate::subject::{CID, Sockets, Subject, all};

#[test]
fn a_reset_with_chains_waiting_uses_none_of_them() {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::live(device, memory());
        for index in 0..guest.queue_count() {
            for _ in 0..16 {
                guest.offer(index, &[(0x1000, 16, false), (0x8000, 4096, true)]);
            }
            // A kick that the device thread has not come to yet.
            guest.write(register::QUEUE_NOTIFY, u32::try_from(index).unwrap());
        }
        let before = guest.interrupts.count();
        guest.write(register::STATUS, 0);
        let still = guest.bytes(0, 4 << 20);
        guest.serve();
        assert!(guest.bytes(0, 4 << 20) == still, "{name} writes nothing after a reset");
        assert_eq!(guest.interrupts.count(), before, "{name} is not heard after a reset");
        assert_eq!(guest.read(register::INTERRUPT_STATUS), 0, "{name}");
        guest.bring_up();
        unharmed();
    }
}

#[test]
fn a_stopped_queue_is_walked_no_more() {
    for Subject { name, device, .. } in all() {
        let mut guest = Guest::live(device, memory());
        guest.write(register::QUEUE_SEL, 0);
        guest.write(register::QUEUE_READY, 0);
        guest.offer(0, &[(0x1000, 16, false), (0x8000, 4096, true)]);
        let still = guest.bytes(0, 4 << 20);
        guest.kick(0);
        assert!(guest.bytes(0, 4 << 20) == still, "{name}");
    }
}

#[test]
fn a_reset_closes_every_connection_and_frees_what_waited_in_them() {
    let sockets = Sockets::default();
    let device = Box::new(Vsock::new(sockets.clone(), CID));
    let mut guest = Guest::live(device, memory());
    let round = |guest: &mut Guest| {
        for port in 0..64 {
            request(guest, port);
            // Nobody takes these bytes: they wait.
            packet(guest, port, 5, 4096);
        }
        assert_eq!(sockets.state().open, 64);
        guest.bring_up();
        assert_eq!(sockets.state().open, 0, "every stream is closed");
    };
    round(&mut guest);
    let held = measure(|| (0..20).for_each(|_| round(&mut guest)));
    assert!(held.bytes_current < 64 << 10, "{} bytes stay after 20 resets", held.bytes_current);
}

#[test]
fn a_reset_for_every_turn_leaves_a_device_that_works() {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::new(device, memory());
        let held = measure(|| {
            for round in 0..500 {
                guest.bring_up();
                let index = round % guest.queue_count();
                guest.offer(index, &[(0x1000, 16, false), (0x8000, 64, true)]);
                guest.write(register::QUEUE_NOTIFY, u32::try_from(index).unwrap());
                if round % 3 == 0 {
                    guest.serve();
                }
            }
            guest.bring_up();
        });
        assert!(held.bytes_current < 64 << 10, "{name}: {} bytes stay", held.bytes_current);
        assert_eq!(guest.status(), status::LIVE, "{name}");
        unharmed();
    }
}

/// The device's thread serves while a vCPU resets it, kicks it and brings it up again.
#[test]
fn resets_from_another_thread_tear_nothing() {
    for Subject { name, device, unharmed } in all() {
        let mut guest = Guest::live(device, memory());
        let transport = guest.transport.clone();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = transport.run_again();
                }
            });
            for round in 0..500 {
                guest.bring_up();
                let index = round % guest.queue_count();
                guest.offer(index, &[(0x1000, 64, true)]);
                guest.write(register::QUEUE_NOTIFY, u32::try_from(index).unwrap());
                guest.write(register::STATUS, 0);
                let still = guest.bytes(Guest::used_ring(index), 64);
                thread::yield_now();
                assert!(guest.bytes(Guest::used_ring(index), 64) == still, "{name}: round {round}");
            }
            stop.store(true, Ordering::Relaxed);
        });
        guest.bring_up();
        assert_eq!(guest.status(), status::LIVE, "{name}");
        unharmed();
    }
}
