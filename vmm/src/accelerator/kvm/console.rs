//! The guest's console, from the device's thread to the main thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use husk_devices::Interrupt;
use husk_devices::virtio::console;

use crate::accelerator::Group;
use crate::device_thread::Line;

/// What waits for the main thread at most: as much as a guest writes in a few milliseconds. What
/// is older is dropped, and the guest never waits.
const WAITING_MAX: usize = 64 << 10;

/// Both ends of the way.
#[derive(Debug)]
struct Pipe {
    waiting: Mutex<Vec<u8>>,
    bell: Line,
}

impl Pipe {
    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The main thread's end: readable while something is there.
#[derive(Debug)]
pub(super) struct Output(Arc<Pipe>);

impl Output {
    /// Takes all that is there.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.bell.take();
        std::mem::take(&mut self.0.waiting())
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }
}

/// The device's end.
#[derive(Debug)]
struct Input(Arc<Pipe>);

impl console::Backend for Input {
    fn write(&mut self, bytes: &[u8]) {
        let mut waiting = self.0.waiting();
        waiting.extend_from_slice(bytes);
        let excess = waiting.len().saturating_sub(WAITING_MAX);
        waiting.drain(..excess);
        drop(waiting);
        self.0.bell.raise();
    }

    fn read(&mut self, _bytes: &mut [u8]) -> usize {
        0
    }

    fn is_readable(&self) -> bool {
        false
    }
}

/// Adds a console behind the last device of the last group.
pub(super) fn with_console(mut groups: Vec<Group>) -> io::Result<(Vec<Group>, Output)> {
    let pipe = Arc::new(Pipe { waiting: Mutex::default(), bell: Line::new()? });
    let device = console::Console::new(Input(pipe.clone()));
    let last = groups.last_mut().ok_or_else(|| io::Error::other("there is no group of devices"))?;
    last.devices.push(Box::new(device));
    Ok((groups, Output(pipe)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use console::Backend;

    #[test]
    fn only_the_last_of_a_flood_is_kept() {
        let pipe = Arc::new(Pipe { waiting: Mutex::default(), bell: Line::new().unwrap() });
        let (mut input, output) = (Input(pipe.clone()), Output(pipe));
        for _ in 0..100 {
            input.write(&[b'x'; 4096]);
        }
        input.write(b"the end");
        let taken = output.take();
        assert_eq!(taken.len(), WAITING_MAX);
        assert!(taken.ends_with(b"the end"));
        assert!(output.take().is_empty());
    }
}
