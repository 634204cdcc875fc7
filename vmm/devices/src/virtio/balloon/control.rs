//! What the host wants of a balloon, and what it knows.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Statistics;

/// The host's side of a balloon, for any thread. Whoever changes something here wakes the device
/// by an event under [`CONTROL`](super::CONTROL).
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    target_pages: AtomicU32,
    actual_pages: AtomicU32,
    statistics: Mutex<Statistics>,
    statistics_wanted: AtomicBool,
}

impl Control {
    /// Asks the guest to give up so many pages of 4 KiB; it takes its time.
    pub fn set_target_pages(&self, pages: u32) {
        self.0.target_pages.store(pages, Ordering::Relaxed);
    }

    /// The pages asked for.
    pub fn target_pages(&self) -> u32 {
        self.0.target_pages.load(Ordering::Relaxed)
    }

    /// The pages that the driver says it has given up.
    pub fn actual_pages(&self) -> u32 {
        self.0.actual_pages.load(Ordering::Relaxed)
    }

    /// Asks the driver for newer statistics.
    pub fn request_statistics(&self) {
        self.0.statistics_wanted.store(true, Ordering::Relaxed);
    }

    /// The statistics that the driver told last. Nothing in them is checked: a guest may lie.
    pub fn statistics(&self) -> Statistics {
        *self.0.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_actual_pages(&self, pages: u32) {
        self.0.actual_pages.store(pages, Ordering::Relaxed);
    }

    pub(super) fn set_statistics(&self, statistics: Statistics) {
        *self.0.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
    }

    pub(super) fn statistics_wanted(&self) -> bool {
        self.0.statistics_wanted.load(Ordering::Relaxed)
    }

    pub(super) fn take_statistics_wanted(&self) -> bool {
        self.0.statistics_wanted.swap(false, Ordering::Relaxed)
    }
}
