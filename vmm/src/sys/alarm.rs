//! Interrupting a system call of this thread after a while.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::checked;

/// A timer that sends this thread a signal, which does nothing but interrupt, again and again
/// until it is dropped: a signal that came just before the call began would else be lost.
#[derive(Debug)]
pub(crate) struct Alarm(libc::timer_t);

/// How often the signal is repeated.
const REPEAT: Duration = Duration::from_millis(10);

impl Alarm {
    /// Sets a timer for this thread.
    pub(crate) fn set(after: Duration) -> io::Result<Self> {
        install_handler()?;
        // SAFETY: all-zero bytes are a valid `sigevent`: integers and a null pointer.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        // SAFETY: gettid has no preconditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = MaybeUninit::uninit();
        // SAFETY: the event is initialised, and the timer is a place for the result.
        let result =
            unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, timer.as_mut_ptr()) };
        checked(result as libc::ssize_t)?;
        // SAFETY: timer_create succeeded and has written it.
        let timer = Self(unsafe { timer.assume_init() });
        let times = libc::itimerspec { it_value: spec(after), it_interval: spec(REPEAT) };
        // SAFETY: the timer exists, the times are initialised, no old times are asked for.
        let result = unsafe { libc::timer_settime(timer.0, 0, &times, std::ptr::null_mut()) };
        checked(result as libc::ssize_t)?;
        Ok(timer)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer was created by `set` and is deleted here only.
        unsafe { libc::timer_delete(self.0) };
    }
}

extern "C" fn ignore(_signal: libc::c_int) {}

/// A handler without `SA_RESTART`, so that calls return instead of going on.
fn install_handler() -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = ignore as *const () as libc::sighandler_t;
    // SAFETY: the action is initialised, and its handler does nothing, which is safe at any time.
    let result = unsafe { libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) };
    checked(result as libc::ssize_t).map(|_| ())
}

fn spec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_call_that_would_wait_is_interrupted() {
        let (mut silent, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let started = Instant::now();
        let _alarm = Alarm::set(Duration::from_millis(20)).unwrap();
        let error = silent.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert!(started.elapsed() >= Duration::from_millis(20));
    }
}
