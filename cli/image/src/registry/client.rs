//! HTTP clients: one per way of trusting the other side, made on first use.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

use crate::error::ImageError;
use crate::limits::REDIRECTS_MAX;

/// Time to reach a registry, name look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a single byte after which a registry counts as gone.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    verifying: OnceLock<Client>,
    insecure: OnceLock<Client>,
    loopback: OnceLock<Client>,
}

impl Clients {
    /// Chooses ring for TLS, once for the process; none is made yet.
    pub(super) fn new() -> Self {
        // An error means that somebody chose before; theirs is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self::default()
    }

    /// A client that verifies certificates unless `is_insecure`, and never asks a proxy for a
    /// registry on this machine.
    pub(super) fn get(&self, is_insecure: bool, is_loopback: bool) -> Result<Client, ImageError> {
        let slot = match (is_insecure, is_loopback) {
            (false, _) => &self.verifying,
            (true, false) => &self.insecure,
            (true, true) => &self.loopback,
        };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let client = build(is_insecure, is_loopback)?;
        Ok(slot.get_or_init(|| client).clone())
    }
}

fn build(is_insecure: bool, is_loopback: bool) -> Result<Client, ImageError> {
    let redirects = Policy::custom(move |attempt| follow(attempt, is_insecure));
    let mut builder = Client::builder()
        .user_agent(concat!("husk/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .danger_accept_invalid_certs(is_insecure)
        .redirect(redirects);
    if is_loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| {
        ImageError::Internal(format!(
            "failed to set up TLS ({error}); install the ca-certificates package"
        ))
    })
}

/// Follows a redirect over HTTP only, never from TLS to none. The HTTP layer drops
/// `Authorization` where host or port change.
fn follow(attempt: Attempt<'_>, is_insecure: bool) -> reqwest::redirect::Action {
    let is_tls = |url: &Url| url.scheme() == "https";
    let was_tls = attempt.previous().last().is_some_and(is_tls);
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    if !matches!(attempt.url().scheme(), "http" | "https") {
        return attempt.error("redirect to something other than HTTP");
    }
    if was_tls && !is_tls(attempt.url()) && !is_insecure {
        return attempt.error("redirect from https to http");
    }
    attempt.follow()
}
