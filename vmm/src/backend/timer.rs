//! Alarms for limited queues.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use husk_devices::rate_limiter::Timer;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::poll::{Poll, Watch};

/// A timer of the kernel's. Nobody reads it: each alarm is an edge of its own.
#[derive(Debug)]
pub(crate) struct AlarmTimer {
    timer: OwnedFd,
    start: Instant,
}

impl AlarmTimer {
    /// A timer whose alarms arrive on `poll` under `token`.
    pub(crate) fn new(poll: &Poll, token: u64) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        poll.add(&timer, token, Watch::Edges)?;
        Ok(Self { timer, start: Instant::now() })
    }
}

impl Timer for AlarmTimer {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wake_after(&mut self, delay: Duration) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would be no alarm at all.
        let delay = delay.max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(delay).expect("no delay is longer than an hour");
        let alarm = Itimerspec { it_interval: zero, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &alarm)
            .expect("the descriptor is a timer, and the time is one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alarm_is_an_event() {
        let poll = Poll::new().unwrap();
        let mut timer = AlarmTimer::new(&poll, 5).unwrap();
        let mut events = Vec::new();
        for _ in 0..2 {
            poll.wait(&mut events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty());
            let before = timer.now();
            timer.wake_after(Duration::from_millis(2));
            poll.wait(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert_eq!(events[0].0, 5);
            assert!(timer.now() - before >= Duration::from_millis(2));
        }
    }
}
