//! Kicks for nothing: a device looks, finds nothing, and is still.

use std::time::Duration;

use husk_devices::virtio::vsock::{LISTENER, Vsock};
use rustix::time::{ClockId, clock_gettime};

use crate::growth::request;
use crate::guest::{Guest, memory, register, status};
use crate::subject::{CID, Sockets, Subject, all};

/// Kicks a second that reach a device: its thread listens to no more of those that bring nothing.
const KICKS_PER_SECOND: u32 = 1000;

/// The share of a CPU that they may take.
const SHARE_MAX: f64 = 0.05;

/// What this thread has used of a CPU.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below a second"))
}

#[test]
fn a_storm_of_kicks_without_buffers_takes_less_than_a_twentieth_of_a_cpu() {
    for Subject { name, device, unharmed } in all() {
        let guest = Guest::live(device, memory());
        let rounds = 20 * KICKS_PER_SECOND;
        let start = cpu_time();
        for round in 0..rounds {
            // As the device thread is called once per kick that it heard.
            for index in 0..guest.queue_count() {
                let _ = guest.transport.kick(u32::try_from(index).unwrap());
            }
            assert!(!guest.transport.has_more(), "{name} asks for turns in round {round}");
        }
        let used = (cpu_time() - start) / rounds;
        let share = used.as_secs_f64() * f64::from(KICKS_PER_SECOND);
        assert!(share < SHARE_MAX, "{name}: {used:?} a kick is {share:.3} of a CPU");
        unharmed();
    }
}

#[test]
fn kicks_that_come_as_register_writes_merge_into_one() {
    for Subject { name, device, .. } in all() {
        let guest = Guest::live(device, memory());
        for _ in 0..100_000 {
            guest.write(register::QUEUE_NOTIFY, 0);
        }
        let mut turns = 0;
        while guest.transport.has_more() {
            let _ = guest.transport.run_again();
            turns += 1;
        }
        assert!(turns <= 2, "{name}: {turns} turns for one queue");
    }
}

#[test]
fn bytes_for_a_guest_without_buffers_wait_in_their_socket_and_keep_nobody_busy() {
    let sockets = Sockets::default();
    sockets.state().sends = 1 << 20;
    let mut guest = Guest::live(Box::new(Vsock::new(sockets.clone(), CID)), memory());
    request(&mut guest, 1);
    let watched = sockets.state().watched.clone();
    for _ in 0..1000 {
        for &token in watched.iter().chain([&LISTENER]) {
            guest.event(token);
        }
        guest.kick(0);
        assert!(!guest.transport.has_more(), "without a buffer there is nothing to do");
    }
    let start = cpu_time();
    for _ in 0..KICKS_PER_SECOND {
        guest.kick(0);
    }
    let share = (cpu_time() - start).as_secs_f64();
    assert!(share < SHARE_MAX, "{share:.3} of a CPU");
}

#[test]
fn buffers_too_small_for_anything_are_used_up_once() {
    let sockets = Sockets::default();
    sockets.state().sends = 1 << 20;
    let mut guest = Guest::live(Box::new(Vsock::new(sockets.clone(), CID)), memory());
    request(&mut guest, 1);
    for _ in 0..64 {
        guest.offer(0, &[(0x8000, 43, true)]);
    }
    guest.kick(0);
    for token in sockets.state().watched.clone() {
        guest.event(token);
    }
    assert!(guest.used(0).iter().all(|&(_, length)| length == 0));
    assert!(!guest.transport.has_more());
}

#[test]
fn events_that_the_device_never_asked_for_do_nothing() {
    for Subject { name, device, unharmed } in all() {
        let guest = Guest::live(device, memory());
        let still = guest.bytes(0, 4 << 20);
        for token in [0, 1, 2, 77, 1 << 16, u32::MAX - 1, u32::MAX] {
            guest.event(token);
        }
        assert!(guest.bytes(0, 4 << 20) == still, "{name}");
        assert_eq!(guest.status(), status::LIVE, "{name}");
        unharmed();
    }
}
