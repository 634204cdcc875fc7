//! A rate limiter that wakes its device.

use std::time::Duration;

use super::{Limits, RateLimiter};

/// A clock of the host, and an alarm on it. The alarm arrives as an event of the device under the
/// token that the timer was made for.
pub trait Timer: Send {
    /// Time since some moment; it never runs backwards.
    fn now(&self) -> Duration;

    /// Sends the event once, after that time; replaces an alarm that has not gone off.
    fn wake_after(&mut self, delay: Duration);
}

/// The longest wait for an alarm. Whoever needs more looks again and waits on.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// The limit of one queue; the default one limits nothing.
#[derive(Default)]
pub struct Throttle {
    active: Option<Active>,
}

struct Active {
    limiter: RateLimiter,
    timer: Box<dyn Timer>,
    waiting: bool,
}

impl Throttle {
    /// Full buckets, and the timer that says when there are new tokens.
    pub fn new(limits: Limits, timer: Box<dyn Timer>) -> Self {
        let limiter = RateLimiter::new(limits, timer.now());
        Self { active: Some(Active { limiter, timer, waiting: false }) }
    }

    /// Pays for one operation of so many bytes. False means not now: the alarm is set, and
    /// [`is_waiting`](Self::is_waiting) until it goes off.
    pub fn admit(&mut self, bytes: usize) -> bool {
        self.ask(|limiter, now| limiter.take(bytes as u64, now))
    }

    /// As [`admit`](Self::admit), for an operation to be [charged](Self::charge) afterwards.
    pub fn begin(&mut self) -> bool {
        self.ask(RateLimiter::begin)
    }

    /// Pays for one operation that has [begun](Self::begin).
    pub fn charge(&mut self, bytes: usize) {
        if let Some(active) = &mut self.active {
            active.limiter.charge(bytes as u64);
        }
    }

    /// Whether the queue has to wait for the alarm.
    pub fn is_waiting(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.waiting)
    }

    /// The alarm has gone off.
    pub fn wake(&mut self) {
        if let Some(active) = &mut self.active {
            active.waiting = false;
        }
    }

    /// The driver is gone, and with it who waits. What it has used stays used.
    pub fn reset(&mut self) {
        if let Some(active) = &mut self.active {
            active.waiting = false;
            active.limiter.give_up();
        }
    }

    fn ask(
        &mut self,
        question: impl FnOnce(&mut RateLimiter, Duration) -> Result<(), Duration>,
    ) -> bool {
        let Some(active) = &mut self.active else { return true };
        let answer = question(&mut active.limiter, active.timer.now());
        if let Err(wait) = answer {
            active.waiting = true;
            active.timer.wake_after(wait.min(DELAY_MAX));
        }
        answer.is_ok()
    }
}
