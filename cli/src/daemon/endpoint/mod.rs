//! Answers to requests: one file for each family of endpoints.

mod attach;
mod container;
mod image;
mod logs;
mod system;
mod wait;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use husk_api::{ApiError, ErrorCode};
use husk_engine::Engine;
use hyper::body::Incoming;
use hyper::{HeaderMap, Request};
use serde::de::DeserializeOwned;

use super::query::Query;
use super::reply::{self, Reply};
use super::route::{self, ContainerRoute, Route};
use super::server::ConnectionPermit;
use super::version::{self, ApiVersion};

/// Bytes of a request's JSON body.
const BODY_BYTES_MAX: usize = 4 << 20;

/// What a request is answered with.
pub(super) struct Call {
    /// Does the work.
    pub(super) engine: Engine,
    /// Counts the connection.
    pub(super) permit: ConnectionPermit,
}

/// Answers any request.
pub(super) async fn answer(call: Call, request: Request<Incoming>) -> Reply {
    match dispatch(call, request).await {
        Ok(reply) => reply,
        Err(error) => reply::error(&error),
    }
}

async fn dispatch(call: Call, request: Request<Incoming>) -> Result<Reply, ApiError> {
    let (version, path) = version::negotiate(request.uri().path())?;
    let route = route::find(request.method(), path);
    let query = Query::of(request.uri())?;
    match route {
        Route::ContainerCreate => container::create(&call.engine, &query, request).await,
        Route::Container(id, ContainerRoute::Attach) => {
            attach::attach(call, &id, &query, version, request).await
        }
        route => {
            let (head, body) = request.into_parts();
            // A client that still writes would see a broken connection instead of the answer.
            let _ = Limited::new(body, BODY_BYTES_MAX).collect().await;
            without_body(&call.engine, route, &head.headers, (&query, version)).await
        }
    }
}

async fn without_body(
    engine: &Engine,
    route: Route,
    headers: &HeaderMap,
    (query, version): (&Query, ApiVersion),
) -> Result<Reply, ApiError> {
    match route {
        Route::Ping => Ok(system::ping()),
        Route::Version => Ok(system::version(engine)),
        Route::Info => system::info(engine).await,
        Route::ImageList => image::list(engine, query).await,
        Route::ImageCreate => image::pull(engine, query, headers).await,
        Route::ImageInspect(name) => image::inspect(engine, &name).await,
        Route::ContainerList => container::list(engine, query).await,
        Route::ContainerCreate => unreachable!("dispatched with the request itself"),
        Route::Container(id, about) => one_container(engine, &id, about, (query, version)).await,
        Route::NotYet(what) => {
            Err(ApiError::new(ErrorCode::Unsupported, format!("{what}: not supported yet by husk")))
        }
        Route::Swarm => Err(ApiError::new(
            ErrorCode::Unavailable,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
             to connect this node to swarm and try again.",
        )),
        Route::Unknown => Err(ApiError::new(ErrorCode::NotFound, "page not found")),
    }
}

async fn one_container(
    engine: &Engine,
    id: &str,
    about: ContainerRoute,
    (query, version): (&Query, ApiVersion),
) -> Result<Reply, ApiError> {
    match about {
        ContainerRoute::Inspect => container::inspect(engine, id).await,
        ContainerRoute::Start => container::start(engine, id).await,
        ContainerRoute::Wait => wait::wait(engine, id, query).await,
        ContainerRoute::Logs => logs::logs(engine, id, query, version).await,
        ContainerRoute::Kill => container::kill(engine, id, query).await,
        ContainerRoute::Resize => container::resize(engine, id, query).await,
        ContainerRoute::Remove => container::remove(engine, id, query).await,
        ContainerRoute::Attach => unreachable!("dispatched with the request itself"),
    }
}

/// Reads a JSON body.
async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidArgument, message);
    let bytes = match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(invalid(format!("request body is larger than {BODY_BYTES_MAX} bytes")));
        }
        Err(error) => return Err(invalid(format!("failed to read the request body: {error}"))),
    };
    serde_json::from_slice(&bytes).map_err(|error| invalid(format!("invalid JSON: {error}")))
}
