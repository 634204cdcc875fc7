//! How many kicks without work a driver may spend.
//!
//! A kick costs the driver next to nothing and a thread here a wake-up. One that brings chains is
//! worth it; a driver that kicks for nothing is listened to less and less often.

use std::time::{Duration, Instant};

/// Kicks for nothing that are heard at once: drivers refill queues before they are needed.
const BURST: u32 = 64;

/// After such a time without work, that many more are.
const PERIOD: Duration = Duration::from_millis(100);

/// For how long a queue is not listened to after that.
pub(super) const DEAF: Duration = Duration::from_millis(5);

/// What is left for one device.
#[derive(Debug)]
pub(super) struct KickBudget {
    left: u32,
    since: Instant,
}

impl KickBudget {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// There was work for the device.
    pub(super) fn restore(&mut self) {
        self.left = BURST;
    }

    /// There was a kick for nothing; whether the driver shall be heard again at once.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= PERIOD {
            *self = Self::new(now);
        }
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_kicks_is_heard_a_thousand_times_a_second_at_most() {
        let start = Instant::now();
        let mut now = start;
        let mut budget = KickBudget::new(start);
        let mut heard = 0;
        while now < start + Duration::from_secs(1) {
            heard += 1;
            // The driver kicks every microsecond.
            now += if budget.spend(now) { Duration::from_micros(1) } else { DEAF };
        }
        assert!(heard < 1000, "{heard}");
    }

    #[test]
    fn work_makes_up_for_kicks_without() {
        let now = Instant::now();
        let mut budget = KickBudget::new(now);
        for kick in 0..10_000 {
            if kick % 50 == 0 {
                budget.restore();
            }
            assert!(budget.spend(now));
        }
    }

    #[test]
    fn now_and_then_a_kick_for_nothing_is_no_storm() {
        let mut now = Instant::now();
        let mut budget = KickBudget::new(now);
        for _ in 0..1000 {
            now += Duration::from_millis(2);
            assert!(budget.spend(now));
        }
    }
}
