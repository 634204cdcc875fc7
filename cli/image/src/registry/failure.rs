//! A registry's failures in words: what was tried, what came, what to do.

use std::error::Error;
use std::io;

use oci_client::errors::OciEnvelope;
use reqwest::{Response, StatusCode};

use crate::error::{ErrorKind, ImageError};
use crate::limits::{ERROR_BYTES_MAX, REGISTRY_MESSAGE_CHARS_MAX};

/// Reads a body up to `limit` bytes; the rest is never asked for.
pub(super) async fn read_bounded(
    response: &mut Response,
    limit: u64,
) -> Result<Vec<u8>, ReadFailure> {
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(ReadFailure::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ReadFailure::Interrupted)? {
        if u64::try_from(body.len() + chunk.len()).is_ok_and(|length| length > limit) {
            return Err(ReadFailure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why a body was not read.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// It is over the limit.
    TooLarge,
    /// The connection broke.
    Interrupted(reqwest::Error),
}

/// The innermost cause, which says most; the outer ones repeat the address.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    // The resolver's own words are a debugging aid.
    if text.starts_with("no records found") {
        return "its name does not resolve".to_owned();
    }
    shorten(&text)
}

/// Whether the connection was refused or broke, which a restarting registry explains.
pub(super) fn is_broken_connection(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            );
        }
        cause = inner.source();
    }
    // The other side closed before it answered.
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

/// The registry cannot be spoken to, or broke off before `wanted` ("layer … of …") had come.
pub(super) fn unreachable(
    authority: &str,
    wanted: &str,
    error: &reqwest::Error,
    is_insecure: bool,
) -> ImageError {
    let cause = root_cause(error);
    let is_tls = ["certificate", "InvalidContentType", "TLS", "tls", "corrupt message"]
        .iter()
        .any(|word| cause.contains(word));
    let remedy = if is_tls && !is_insecure {
        "if it has no certificate of a known authority, add it to insecure-registries"
    } else {
        "check its address, that it runs, and the network"
    };
    let message = if error.is_connect() {
        format!("registry {authority} cannot be reached: {cause}; {remedy}")
    } else {
        format!("registry {authority} broke off before {wanted} had come: {cause}; try again")
    };
    ImageError::Registry { message, kind: ErrorKind::Unavailable }
}

/// The registry answered something other than success. `subject` is the familiar name with tag or
/// digest, `what` the thing asked for ("manifest", "layer …").
pub(super) async fn refused(
    mut response: Response,
    authority: &str,
    subject: &str,
    what: &str,
) -> ImageError {
    let status = response.status();
    let body = read_bounded(&mut response, ERROR_BYTES_MAX).await.unwrap_or_default();
    let said = message_of(&body);
    let (kind, message) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return denied(subject, authority, said.as_deref());
        }
        StatusCode::NOT_FOUND if what == "manifest" => (
            ErrorKind::NotFound,
            format!("manifest for {subject} not found: manifest unknown at {authority}"),
        ),
        StatusCode::NOT_FOUND => {
            (ErrorKind::NotFound, format!("{what} of {subject} not found at {authority}"))
        }
        StatusCode::TOO_MANY_REQUESTS => (
            ErrorKind::Unavailable,
            format!(
                "registry {authority} allows no more requests for {subject} now (429); try later"
            ),
        ),
        status => (
            ErrorKind::Unavailable,
            format!(
                "registry {authority} answered {} to a request for {what} of {subject}{}; try later",
                status.as_u16(),
                said.map(|said| format!(" ({said})")).unwrap_or_default()
            ),
        ),
    };
    ImageError::Registry { message, kind }
}

/// The credentials, or the lack of them, do not suffice.
pub(super) fn denied(subject: &str, authority: &str, said: Option<&str>) -> ImageError {
    let name = subject.split_once('@').map_or(subject, |(name, _)| name);
    let said = said.unwrap_or("the registry wants other credentials");
    ImageError::Registry {
        message: format!(
            "pull access denied for {name}, repository does not exist at {authority} or may \
             require 'docker login': {said}"
        ),
        kind: ErrorKind::Unauthorized,
    }
}

/// What the registry itself says, if it says it in the specified form.
fn message_of(body: &[u8]) -> Option<String> {
    let envelope: OciEnvelope = serde_json::from_slice(body).ok()?;
    let first = envelope.errors.into_iter().next()?;
    let said = shorten(&first.message);
    (!said.is_empty()).then_some(said)
}

/// A stranger's words, bounded and on one line.
pub(super) fn shorten(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(REGISTRY_MESSAGE_CHARS_MAX)
        .collect()
}
