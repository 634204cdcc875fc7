//! The accept loop: takes connections up to a limit and answers each request on its own task.
//!
//! A handler runs to its end even if its client leaves, so that no engine call is cut in half;
//! one that panics answers 500 and takes nobody along.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use husk_engine::Engine;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::endpoint::{self, Call};
use super::reply::{self, Reply};

/// Connections at once, attached ones included; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1024;

/// Bytes of a request's head: what Go's `net/http` allows would be 1 MiB.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Header lines of a request.
const HEADERS_MAX: usize = 128;

/// Time for a request's head to arrive: a client that sends a byte a minute holds a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after a failed accept, mostly for want of descriptors: trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Counts a connection, and what it was upgraded to, as long as a clone lives.
pub(super) type ConnectionPermit = Arc<OwnedSemaphorePermit>;

/// Accepts until `stop` ends; gives back its result.
pub(super) async fn serve<T>(
    listener: &UnixListener,
    engine: Engine,
    stop: impl Future<Output = T>,
) -> T {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop = std::pin::pin!(stop);
    loop {
        let permit = tokio::select! {
            reason = &mut stop => return reason,
            permit = slots.clone().acquire_owned() => permit.expect("never closed"),
        };
        let accepted = tokio::select! {
            reason = &mut stop => return reason,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, engine.clone(), Arc::new(permit)));
            }
            Err(error) => {
                tracing::error!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, engine: Engine, permit: ConnectionPermit) {
    let service = service_fn(|request| {
        let call = Call { engine: engine.clone(), permit: permit.clone() };
        answer(call, request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(call: Call, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut reply = match tokio::spawn(endpoint::answer(call, request)).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::error!(%method, path, %error, "a handler panicked");
            reply::fault("husk failed to handle the request: see the daemon's log")
        }
    };
    reply::add_server_headers(reply.headers_mut());
    if method == Method::HEAD {
        *reply.body_mut() = axum::body::Body::empty();
    }
    tracing::debug!(%method, path, status = reply.status().as_u16(), "answered");
    Ok(reply)
}
