//! `_ping`, `version`, `info`.

use husk_api::ApiError;
use husk_engine::Engine;
use hyper::StatusCode;

use super::super::reply::{self, Reply};

/// `HEAD|GET /_ping`.
pub(super) fn ping() -> Reply {
    let mut reply = reply::text("OK");
    reply::add_ping_headers(reply.headers_mut());
    reply
}

/// `GET /version`.
pub(super) fn version(engine: &Engine) -> Reply {
    reply::json(StatusCode::OK, &engine.version())
}

/// `GET /info`.
pub(super) async fn info(engine: &Engine) -> Result<Reply, ApiError> {
    Ok(reply::json(StatusCode::OK, &engine.info().await?))
}
