//! The limiter against its promise, and the throttle against a clock that is turned by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn bytes(size: u64, one_time_burst: u64, refill_per_second: u64) -> Limits {
    Limits { bytes: Some(Rate { size, one_time_burst, refill_per_second }), operations: None }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_full_bucket_and_the_burst_go_at_once_and_then_the_rate() {
    let mut limiter = RateLimiter::new(bytes(100, 50, 10), Duration::ZERO);
    assert_eq!(limiter.take(150, Duration::ZERO), Ok(()));
    assert_eq!(limiter.take(5, Duration::ZERO), Err(SECOND / 2));
    assert_eq!(limiter.take(5, SECOND / 2), Ok(()));
    // Full again after ten seconds, and never fuller; the burst does not come back.
    assert_eq!(limiter.take(100, SECOND * 1000), Ok(()));
    assert_eq!(limiter.take(1, SECOND * 1000), Err(SECOND / 10));
}

#[test]
fn what_needs_more_than_the_bucket_holds_saves_up() {
    let mut limiter = RateLimiter::new(bytes(100, 0, 10), Duration::ZERO);
    assert_eq!(limiter.take(250, Duration::ZERO), Err(SECOND * 15));
    assert_eq!(limiter.take(250, SECOND * 10), Err(SECOND * 5));
    assert_eq!(limiter.take(250, SECOND * 15), Ok(()));
    assert_eq!(limiter.take(250, SECOND * 15), Err(SECOND * 25));
    // Once it has given up, the rest spills over.
    limiter.give_up();
    assert_eq!(limiter.take(101, SECOND * 1000), Err(SECOND / 10));
}

#[test]
fn both_buckets_must_have_enough_or_neither_is_touched() {
    let rate = |size| Rate { size, one_time_burst: 0, refill_per_second: 1 };
    let limits = Limits { bytes: Some(rate(1000)), operations: Some(rate(1)) };
    let mut limiter = RateLimiter::new(limits, Duration::ZERO);
    assert_eq!(limiter.take(400, Duration::ZERO), Ok(()));
    assert_eq!(limiter.take(600, Duration::ZERO), Err(SECOND));
    assert_eq!(limiter.take(601, SECOND), Ok(()), "600 were left, and one has come");
}

#[test]
fn an_operation_of_unknown_size_leaves_a_debt_of_its_own() {
    let mut limiter = RateLimiter::new(bytes(10, 0, 10), Duration::ZERO);
    assert_eq!(limiter.begin(Duration::ZERO), Ok(()));
    limiter.charge(29);
    assert_eq!(limiter.begin(Duration::ZERO), Err(SECOND * 2));
    assert_eq!(limiter.begin(SECOND * 2), Ok(()));
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let mut limiter = RateLimiter::new(bytes(u64::MAX, u64::MAX, u64::MAX), Duration::ZERO);
    assert_eq!(limiter.take(u64::MAX, Duration::MAX), Ok(()));
    limiter.charge(u64::MAX);
    limiter.charge(u64::MAX);
    assert!(limiter.begin(Duration::MAX).is_err());
    let mut slow = RateLimiter::new(bytes(1, 0, 1), Duration::ZERO);
    assert!(slow.take(u64::MAX, Duration::ZERO).unwrap_err() > SECOND * 1_000_000_000);
    assert!(slow.take(u64::MAX, Duration::MAX).is_ok(), "the end of time is late enough");
}

/// A clock and an alarm in the test's hands.
#[derive(Clone, Default)]
pub(crate) struct Hand(Arc<Mutex<(Duration, Option<Duration>)>>);

impl Hand {
    /// Time passes; true if the alarm went off.
    pub(crate) fn turn(&self, time: Duration) -> bool {
        let mut state = self.0.lock().unwrap();
        state.0 += time;
        let due = state.1.is_some_and(|at| at <= state.0);
        if due {
            state.1 = None;
        }
        due
    }
}

impl Timer for Hand {
    fn now(&self) -> Duration {
        self.0.lock().unwrap().0
    }

    fn wake_after(&mut self, delay: Duration) {
        let mut state = self.0.lock().unwrap();
        state.1 = Some(state.0 + delay);
    }
}

#[test]
fn a_throttle_waits_for_its_alarm() {
    let hand = Hand::default();
    let mut throttle = Throttle::new(bytes(10, 0, 10), Box::new(hand.clone()));
    assert!(throttle.admit(10) && !throttle.is_waiting());
    assert!(!throttle.admit(5) && throttle.is_waiting());
    assert!(!hand.turn(SECOND / 4));
    assert!(hand.turn(SECOND / 4));
    throttle.wake();
    assert!(!throttle.is_waiting() && throttle.admit(5));
    assert!(!throttle.admit(5));
    throttle.reset();
    assert!(!throttle.is_waiting(), "nobody waits after a reset");
    assert!(!throttle.admit(5), "but what was used is used");
}

#[test]
fn a_throttle_of_nothing_lets_everything_through() {
    let mut throttle = Throttle::default();
    assert!(throttle.admit(usize::MAX) && throttle.begin() && !throttle.is_waiting());
    throttle.charge(usize::MAX);
    assert!(throttle.begin());
}

proptest! {
    /// Never more than size + burst + rate × time; and who waits as long as told gets through.
    #[test]
    fn it_keeps_its_promise(
        size in 1_u64..10_000,
        burst in 0_u64..10_000,
        rate in 1_u64..1_000_000,
        steps in prop::collection::vec((0_u64..30_000, 0_u64..200_000_000, any::<bool>()), 1..200),
    ) {
        let mut limiter = RateLimiter::new(bytes(size, burst, rate), Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut taken = 0_u128;
        for (cost, pause, patient) in steps {
            now += Duration::from_nanos(pause);
            match limiter.take(cost, now) {
                Ok(()) => taken += u128::from(cost),
                Err(wait) if patient => {
                    prop_assert!(wait > Duration::ZERO);
                    now += wait;
                    prop_assert_eq!(limiter.take(cost, now), Ok(()), "{} later", wait.as_nanos());
                    taken += u128::from(cost);
                }
                // It would have had to wait, and not a nanosecond for nothing.
                Err(wait) => {
                    let early = wait - Duration::from_nanos(1);
                    prop_assert!(limiter.clone().take(cost, now + early).is_err());
                    limiter.give_up();
                }
            }
            let allowed = u128::from(size + burst) * 1_000_000_000 + u128::from(rate) * now.as_nanos();
            prop_assert!(taken * 1_000_000_000 <= allowed, "{taken} in {now:?}");
        }
    }
}
