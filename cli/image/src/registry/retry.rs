//! When a request is worth repeating, and after how long.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Waits before the second, third and fourth try.
const DELAYS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1)];
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// Counts the tries of one request.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: usize,
}

impl Backoff {
    /// Waits before the next try, as long as the registry asked for if it did; false if there has
    /// been the last one.
    pub(super) async fn wait(&mut self, asked: Option<Duration>) -> bool {
        let Some(delay) = DELAYS.get(self.failures) else { return false };
        self.failures += 1;
        tokio::time::sleep(asked.unwrap_or(*delay).min(RETRY_AFTER_MAX)).await;
        true
    }
}

/// Whether an answer may be another one soon.
pub(super) fn is_temporary(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// The seconds of `Retry-After` (RFC 9110 section 10.2.3); dates are not read.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
