//! The guest's clock.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// Sets the clock to `unix_ns` nanoseconds since 1970, UTC.
///
/// # Errors
/// The kernel's; [`io::ErrorKind::InvalidInput`] for a time that it cannot hold.
pub fn set(unix_ns: u64) -> io::Result<()> {
    let time = Duration::from_nanos(unix_ns);
    let time = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// Nanoseconds since 1970, UTC.
pub fn unix_ns() -> u64 {
    u64::try_from(since(ClockId::Realtime).as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since the guest's kernel started.
pub fn uptime_ms() -> u64 {
    u64::try_from(since(ClockId::Boottime).as_millis()).unwrap_or(u64::MAX)
}

/// The reading of a clock; zero before its epoch.
fn since(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}
