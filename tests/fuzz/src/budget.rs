//! A bound on memory.

/// Runs `act` and fails if its thread held more than `bytes` at once beyond what it began with.
pub fn bounded<T>(bytes: u64, act: impl FnOnce() -> T) -> T {
    let mut outcome = None;
    let held = allocation_counter::measure(|| outcome = Some(act()));
    assert!(held.bytes_max <= bytes, "{} bytes held at once, over {bytes}", held.bytes_max);
    outcome.expect("the closure has run")
}
