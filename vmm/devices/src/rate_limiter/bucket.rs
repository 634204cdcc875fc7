//! The buckets, exact to the nanosecond.

use std::time::Duration;

/// What fills one bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Tokens that it holds, at least 1; it is full at first.
    pub size: u64,
    /// Tokens that come on top once and are spent first.
    pub one_time_burst: u64,
    /// Tokens that flow in, at least 1.
    pub refill_per_second: u64,
}

/// What limits a queue; a rate that is not there limits nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of data.
    pub bytes: Option<Rate>,
    /// Requests or frames.
    pub operations: Option<Rate>,
}

/// A bucket for bytes and one for operations.
///
/// From its creation on, and for any time `t` since, what was taken is at most a bucket's size, its
/// burst, and `t` times its rate. Whoever needs more than the size at once saves up for it: the
/// bucket is deeper for as long as that one waits.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl RateLimiter {
    /// Full buckets. Every `now`, here as elsewhere, is time since the same moment; one that lies
    /// before an earlier one counts as that.
    pub fn new(limits: Limits, now: Duration) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        Self { bytes: bucket(limits.bytes), operations: bucket(limits.operations) }
    }

    /// Pays for one operation of so many bytes.
    ///
    /// # Errors
    /// The time after which there may be enough; nothing was taken.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Result<(), Duration> {
        let costs = [(&mut self.bytes, bytes), (&mut self.operations, 1)];
        let mut wait = Duration::ZERO;
        for (bucket, cost) in costs {
            let Some(bucket) = bucket else { continue };
            wait = wait.max(bucket.save(cost, now));
        }
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.charge(bytes);
        Ok(())
    }

    /// Whether one operation may begin whose size shows only afterwards: [`charge`](Self::charge)
    /// for it then. Such an operation may leave a debt of its own size, which is paid off before
    /// the next.
    ///
    /// # Errors
    /// The time after which it may.
    pub fn begin(&mut self, now: Duration) -> Result<(), Duration> {
        let buckets = [&mut self.bytes, &mut self.operations];
        let waits = buckets.into_iter().flatten().map(|bucket| bucket.save(1, now));
        match waits.max() {
            Some(wait) if wait > Duration::ZERO => Err(wait),
            _ => Ok(()),
        }
    }

    /// Pays for one operation of so many bytes, by debt if need be.
    pub fn charge(&mut self, bytes: u64) {
        for (bucket, cost) in [(&mut self.bytes, bytes), (&mut self.operations, 1)] {
            if let Some(bucket) = bucket {
                bucket.spend(cost);
            }
        }
    }

    /// Whoever saved up waits no more.
    pub fn give_up(&mut self) {
        [&mut self.bytes, &mut self.operations].into_iter().flatten().for_each(Bucket::give_up);
    }
}

/// Parts of a token: what flows in during a nanosecond is a whole number of them.
const PARTS: i128 = 1_000_000_000;

#[derive(Clone, Debug)]
struct Bucket {
    /// All in parts of tokens, but for the rate: parts in a nanosecond.
    size: i128,
    rate: i128,
    level: i128,
    burst: i128,
    /// How deep it is while someone waits for more than its size.
    saving: i128,
    updated: Duration,
}

impl Bucket {
    fn new(rate: Rate, now: Duration) -> Self {
        let parts = |tokens: u64| i128::from(tokens) * PARTS;
        Self {
            size: parts(rate.size.max(1)),
            rate: i128::from(rate.refill_per_second.max(1)),
            level: parts(rate.size.max(1)),
            burst: parts(rate.one_time_burst),
            saving: 0,
            updated: now,
        }
    }

    /// How long it takes until so many tokens are there; makes room for them.
    fn save(&mut self, tokens: u64, now: Duration) -> Duration {
        self.refill(now);
        let cost = i128::from(tokens) * PARTS;
        let missing = cost - self.level - self.burst;
        if missing <= 0 {
            return Duration::ZERO;
        }
        self.saving = cost;
        let nanoseconds = missing / self.rate + i128::from(missing % self.rate != 0);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.updated);
        self.updated = self.updated.max(now);
        let elapsed = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        let inflow = elapsed.saturating_mul(self.rate);
        self.level = self.level.saturating_add(inflow).min(self.size.max(self.saving));
    }

    fn spend(&mut self, tokens: u64) {
        let cost = i128::from(tokens) * PARTS;
        let from_burst = cost.min(self.burst);
        self.burst -= from_burst;
        self.level -= cost - from_burst;
        self.give_up();
    }

    fn give_up(&mut self) {
        self.saving = 0;
        self.level = self.level.min(self.size);
    }
}
