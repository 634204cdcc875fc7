//! The host side of the console: from a device thread to the main thread, at a bounded rate.
//!
//! A guest may print without end. What is printed faster than anybody could read waits in the
//! guest's own queue; what the main thread has not taken yet makes room for what comes after it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use husk_devices::Interrupt;
use husk_devices::virtio::console::Backend;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::console::Console;
use crate::device_thread::Line;
use crate::poll::{Poll, Watch};

/// Bytes that wait for the main thread.
const WAITING_MAX: usize = 64 << 10;

/// What the guest may print at once, and in a second: in bytes, with [`REQUEST_COST`] for each
/// request on top, as Linux prints 16 bytes a request.
const BURST: i64 = 1 << 20;
const RATE: i64 = 1 << 20;
const REQUEST_COST: i64 = 256;

/// What there is to spend after a pause: many short pauses would cost more than the output.
const PORTION: i64 = RATE / 50;

/// What both threads share.
#[derive(Debug)]
struct Shared {
    waiting: Mutex<Vec<u8>>,
    bell: Line,
}

/// The device thread's end.
#[derive(Debug)]
pub(crate) struct ConsolePort {
    shared: Arc<Shared>,
    budget: Budget,
    /// Ends a pause; watched, not read.
    timer: OwnedFd,
}

/// The main thread's end, readable while something was printed.
#[derive(Debug)]
pub(crate) struct ConsoleOutput(Arc<Shared>);

impl ConsolePort {
    /// Both ends. The device that gets the first one is served on `poll` under `tokens`.
    pub(crate) fn channel(poll: &Poll, tokens: u64) -> io::Result<(Self, ConsoleOutput)> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        poll.add(&timer, tokens, Watch::Edges)?;
        let shared = Arc::new(Shared { waiting: Mutex::default(), bell: Line::new()? });
        let budget = Budget { left: BURST, at: Instant::now() };
        Ok((Self { shared: shared.clone(), budget, timer }, ConsoleOutput(shared)))
    }
}

impl Backend for ConsolePort {
    fn write(&mut self, bytes: &[u8]) {
        let mut waiting = self.shared.waiting();
        let was_empty = waiting.is_empty();
        waiting.extend_from_slice(bytes);
        let excess = waiting.len().saturating_sub(WAITING_MAX);
        waiting.drain(..excess);
        drop(waiting);
        if was_empty {
            self.shared.bell.raise();
        }
        if let Some(pause) = self.budget.spend(bytes.len(), Instant::now()) {
            let pause = Timespec::try_from(pause).expect("a pause is short");
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let times = Itimerspec { it_interval: zero, it_value: pause };
            // The timer exists and the times are valid: there is no other way to fail.
            let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &times);
        }
    }

    fn is_writable(&self) -> bool {
        self.budget.is_left(Instant::now())
    }

    /// Nobody types.
    fn read(&mut self, _bytes: &mut [u8]) -> usize {
        0
    }

    fn is_readable(&self) -> bool {
        false
    }
}

impl ConsoleOutput {
    /// Moves all that was printed into `console`.
    pub(crate) fn drain(&self, console: &mut Console) {
        self.0.bell.take();
        let waiting = std::mem::take(&mut *self.0.waiting());
        console.push(&waiting);
    }
}

impl AsFd for ConsoleOutput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }
}

impl Shared {
    /// A panic ends the process, so that no lock is ever left poisoned.
    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the guest may print: a token bucket that goes into debt, so that a request is never split.
#[derive(Debug)]
struct Budget {
    left: i64,
    at: Instant,
}

impl Budget {
    /// Takes a request off; where nothing is left then, returns how long to wait.
    fn spend(&mut self, length: usize, now: Instant) -> Option<Duration> {
        let cost = i64::try_from(length).unwrap_or(i64::MAX).saturating_add(REQUEST_COST);
        self.left = self.refilled(now).saturating_sub(cost);
        self.at = now;
        let missing = u64::try_from(PORTION.saturating_sub(self.left)).ok()?;
        let rate = u64::try_from(RATE).expect("a rate is positive");
        (self.left <= 0).then(|| Duration::from_micros(missing.saturating_mul(1_000_000) / rate))
    }

    fn is_left(&self, now: Instant) -> bool {
        self.refilled(now) > 0
    }

    fn refilled(&self, now: Instant) -> i64 {
        let us = i64::try_from(now.saturating_duration_since(self.at).as_micros());
        let more = us.unwrap_or(i64::MAX).saturating_mul(RATE) / 1_000_000;
        self.left.saturating_add(more).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_thread::device_tokens;

    fn channel() -> (Poll, ConsolePort, ConsoleOutput) {
        let poll = Poll::new().unwrap();
        let (port, output) = ConsolePort::channel(&poll, device_tokens(4)).unwrap();
        (poll, port, output)
    }

    #[test]
    fn what_was_printed_arrives_in_order_and_the_bell_rings_once() {
        let (_, mut port, output) = channel();
        let mut console = Console::new();
        for piece in ["Kernel panic ", "- not syncing: ", "no init\n"] {
            port.write(piece.as_bytes());
        }
        let mut count = [0; 8];
        rustix::io::read(&output, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1, "one edge for all that waits");
        output.drain(&mut console);
        assert!(console.panicked());
        assert_eq!(console.text(), "Kernel panic - not syncing: no init\n");
        port.write(b"more");
        assert!(output.0.bell.take(), "what comes after it rings again");
    }

    #[test]
    fn output_without_end_is_paused_and_costs_no_memory() {
        let (poll, mut port, output) = channel();
        let mut requests = 0;
        let started = Instant::now();
        while port.is_writable() {
            port.write(&[b'x'; 4096]);
            requests += 1;
            let most = 300 + 300 * started.elapsed().as_secs();
            assert!(requests <= most, "the budget ends");
        }
        assert!(output.0.waiting().len() == WAITING_MAX);
        // The end of the pause is an event for the device.
        let mut events = Vec::new();
        while events.is_empty() {
            poll.wait(&mut events, None).unwrap();
            events.retain(|(token, readiness)| *token == device_tokens(4) && readiness.readable);
        }
        assert!(port.is_writable());
    }

    #[test]
    fn a_second_of_output_is_bounded_whatever_its_requests() {
        for length in [0, 16, 4096] {
            let start = Instant::now();
            let mut budget = Budget { left: BURST, at: start };
            let (mut requests, mut bytes) = (0, 0);
            let mut now = start;
            while now < start + Duration::from_secs(2) {
                // The guest never stops, and is heard again when the pause ends.
                let pause = budget.spend(length, now).unwrap_or_default();
                now += pause.max(Duration::from_micros(1));
                assert!(budget.is_left(now), "a pause is long enough");
                requests += 1;
                bytes += i64::try_from(length).unwrap();
            }
            assert!(requests <= (BURST + 2 * RATE) / REQUEST_COST + 1, "{requests}");
            assert!(bytes <= BURST + 2 * RATE + 4096, "{bytes}");
        }
    }
}
