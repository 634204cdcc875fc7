//! What a machine is too slow for: one factor, for deadlines and for sizes.
//!
//! `HUSK_TEST_SLOWNESS=n` (default 1) says that a microVM takes n times as long as under software
//! emulation on an ordinary machine; in the KVM lab, where the CPU is emulated, `.ci/lab` sets it.
//! Deadlines grow by it; sizes that would only make a story longer shrink by its square, because
//! each piece is slower too, and say so.

use std::time::Duration;

use crate::skip;

/// `HUSK_TEST_SLOWNESS`.
///
/// # Panics
/// If it is no number from 1 to 100.
#[must_use]
pub fn slowness() -> u32 {
    let Ok(text) = std::env::var("HUSK_TEST_SLOWNESS") else { return 1 };
    let number = text.parse().ok().filter(|number| (1..=100).contains(number));
    number.unwrap_or_else(|| panic!("HUSK_TEST_SLOWNESS is {text:?}, not a number from 1 to 100"))
}

/// A deadline on this machine.
#[must_use]
pub fn patience(deadline: Duration) -> Duration {
    deadline * slowness()
}

/// `full` of `what` where that is fast, otherwise fewer, but not below `least`; says so.
#[must_use]
pub fn scaled(what: &str, full: usize, least: usize) -> usize {
    let factor = usize::try_from(slowness().pow(2)).unwrap_or(usize::MAX);
    let number = (full / factor).max(least);
    if number != full {
        skip::say(&format!("SCALED: {number} of {full} {what}"));
    }
    number
}

/// Why a story that is not about microVMs does not run where they are slow, if so: no accelerator
/// makes a difference to it, and it runs where nothing is slow.
#[must_use]
pub fn without_guests() -> Option<String> {
    left_out("is not about microVMs")
}

/// `reason`, and that it holds on a slow machine only.
#[must_use]
pub fn left_out(reason: &str) -> Option<String> {
    (slowness() > 1).then(|| format!("{reason}; runs outside the lab"))
}
