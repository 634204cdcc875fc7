//! Token buckets: how much a queue may do in the course of time.
//!
//! `bucket` is arithmetic alone, and is told the time. `throttle` joins it with a timer of the
//! host, so that a device that ran out of tokens goes on when there are new ones.

mod bucket;
mod throttle;

pub use bucket::{Limits, Rate, RateLimiter};
pub use throttle::{Throttle, Timer};

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::Hand;
