//! The rate of the host's time stamp counter.

use std::arch::x86_64::{__cpuid, _rdtsc};
use std::time::{Duration, Instant};

/// The leaf of advanced power management, and its bit for a counter that never changes its rate.
const POWER_LEAF: u32 = 0x8000_0007;
const INVARIANT: u32 = 1 << 8;

/// Below this, the reading's own duration would show in the result.
const LEAST: Duration = Duration::from_millis(1);

/// Readings of which the tightest counts.
const READINGS: usize = 8;

/// A reading of the counter and the clock at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TscReading {
    ticks: u64,
    time: Instant,
}

impl TscReading {
    /// Reads both.
    pub(crate) fn now() -> Self {
        let read = || {
            let before = Instant::now();
            // SAFETY: every x86-64 processor has the instruction, and Linux allows it by default.
            let ticks = unsafe { _rdtsc() };
            (before.elapsed(), Self { ticks, time: before })
        };
        let readings = (0..READINGS).map(|_| read());
        let (_, tightest) = readings.min_by_key(|&(took, _)| took).expect("there is at least one");
        tightest
    }

    /// The counter's rate in kHz since this reading, if it has one rate and the time is enough.
    pub(crate) fn rate_khz(&self) -> Option<u64> {
        let now = Self::now();
        let time = now.time.duration_since(self.time);
        if time < LEAST || __cpuid(0x8000_0000).eax < POWER_LEAF {
            return None;
        }
        if __cpuid(POWER_LEAF).edx & INVARIANT == 0 {
            return None;
        }
        let ticks = u128::from(now.ticks.checked_sub(self.ticks)?);
        u64::try_from(ticks * 1_000_000 / time.as_nanos()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree_or_there_is_no_rate() {
        let rate = || {
            let first = TscReading::now();
            while first.time.elapsed() < Duration::from_millis(20) {}
            first.rate_khz()
        };
        let (Some(one), Some(other)) = (rate(), rate()) else { return };
        assert!(one.abs_diff(other) < one / 1000, "{one} {other}");
    }

    #[test]
    fn no_time_gives_no_rate() {
        assert_eq!(TscReading::now().rate_khz(), None);
    }
}
