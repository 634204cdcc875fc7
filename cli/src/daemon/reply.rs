//! Responses: JSON, errors as `{"message": …}`, streams of lines, and none.

use axum::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use husk_api::{API_VERSION, ApiError, ErrorCode};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA, SERVER};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

/// What every endpoint answers with.
pub(super) type Reply = Response<Body>;

/// The `Server` header.
const SERVER_NAME: &str = concat!("Husk/", env!("CARGO_PKG_VERSION"), " (linux)");

/// A JSON document.
pub(super) fn json<T: Serialize>(status: StatusCode, document: &T) -> Reply {
    let mut body = match serde_json::to_vec(document) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "failed to encode an answer");
            return fault("failed to encode the answer");
        }
    };
    body.push(b'\n');
    with_type(status, "application/json", Body::from(body))
}

/// A status without body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// An error as clients know it; "not modified" has no body.
pub(super) fn error(error: &ApiError) -> Reply {
    let status =
        StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.code == ErrorCode::NotModified {
        return empty(status);
    }
    json(status, &serde_json::json!({ "message": error.message }))
}

/// An error of our own making.
pub(super) fn fault(message: &str) -> Reply {
    error(&ApiError::new(ErrorCode::Internal, message))
}

/// A body that is sent as it comes, one flush an item.
pub(super) fn stream<S>(media_type: &'static str, items: S) -> Reply
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
{
    with_type(StatusCode::OK, media_type, Body::from_stream(items))
}

/// Plain text; `GET /_ping`.
pub(super) fn text(text: &'static str) -> Reply {
    with_type(StatusCode::OK, "text/plain; charset=utf-8", Body::from(text))
}

/// Adds what every answer of dockerd carries.
pub(super) fn add_server_headers(headers: &mut HeaderMap) {
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    headers.insert("api-version", HeaderValue::from_static(API_VERSION));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
}

/// Adds what `_ping` says beyond that.
pub(super) fn add_ping_headers(headers: &mut HeaderMap) {
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
}

fn with_type(status: StatusCode, media_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_modified_has_no_body() {
        let reply = error(&ApiError::new(ErrorCode::NotModified, "it runs"));
        assert_eq!(reply.status(), 304);
        assert!(!reply.headers().contains_key(CONTENT_TYPE));
    }

    #[test]
    fn an_error_is_json_with_its_status() {
        let reply = error(&ApiError::new(ErrorCode::NotFound, "page not found"));
        assert_eq!(reply.status(), 404);
        assert_eq!(reply.headers()[CONTENT_TYPE], "application/json");
    }
}
