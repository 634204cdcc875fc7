//! The host side of the console: from a device thread to the main thread, at a bounded rate.
//!
//! A guest may print without end. What is printed faster than anybody could read waits in the
//! guest's own queue; what the main thread has not taken yet makes room for what comes after it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use husk_devices::Interrupt;
use husk_devices::rate_limiter::{Limits, Rate, Throttle};
use husk_devices::virtio::console::{self, Backend, THROTTLE};

use super::AlarmTimer;
use crate::console::Console;
use crate::device_thread::Line;
use crate::poll::Poll;

/// Bytes that wait for the main thread.
const WAITING_MAX: usize = 64 << 10;

/// What the guest may print. Linux prints 16 bytes a request and waits for each, so that requests
/// are what costs: these keep a device thread below a tenth of a CPU.
const LIMITS: Limits = Limits {
    bytes: Some(Rate { size: 1 << 20, one_time_burst: 0, refill_per_second: 1 << 20 }),
    operations: Some(Rate { size: 8192, one_time_burst: 0, refill_per_second: 4096 }),
};

/// What both threads share.
#[derive(Debug)]
struct Shared {
    waiting: Mutex<Vec<u8>>,
    bell: Line,
}

/// The device thread's end.
#[derive(Debug)]
pub(crate) struct ConsolePort(Arc<Shared>);

/// The main thread's end, readable while something was printed.
#[derive(Debug)]
pub(crate) struct ConsoleOutput(Arc<Shared>);

/// A console device that is served on `poll` under `tokens`, and what it prints.
pub(crate) fn console_device(
    poll: &Poll,
    tokens: u64,
) -> io::Result<(console::Console<ConsolePort>, ConsoleOutput)> {
    let timer = AlarmTimer::new(poll, tokens | u64::from(THROTTLE))?;
    let (port, output) = channel()?;
    let device = console::Console::new(port);
    Ok((device.with_throttle(Throttle::new(LIMITS, Box::new(timer))), output))
}

fn channel() -> io::Result<(ConsolePort, ConsoleOutput)> {
    let shared = Arc::new(Shared { waiting: Mutex::default(), bell: Line::new()? });
    Ok((ConsolePort(shared.clone()), ConsoleOutput(shared)))
}

impl Backend for ConsolePort {
    fn write(&mut self, bytes: &[u8]) {
        let mut waiting = self.0.waiting();
        let was_empty = waiting.is_empty();
        waiting.extend_from_slice(bytes);
        let excess = waiting.len().saturating_sub(WAITING_MAX);
        waiting.drain(..excess);
        drop(waiting);
        if was_empty {
            self.0.bell.raise();
        }
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
        // First: what is printed after it rings again.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_arrives_in_order_and_the_bell_rings_once() {
        let (mut port, output) = channel().unwrap();
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
    fn what_nobody_takes_costs_no_memory() {
        let (mut port, output) = channel().unwrap();
        for _ in 0..1000 {
            port.write(&[b'x'; 4096]);
        }
        port.write(b"the end");
        assert_eq!(output.0.waiting().len(), WAITING_MAX);
        let mut console = Console::new();
        output.drain(&mut console);
        assert!(console.text().ends_with("the end"));
    }
}
