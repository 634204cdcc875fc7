//! Requests on a connection of their own: attach, wait, logs, inspect.

use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use husk_api::ContainerInspect;
use husk_api::models::ContainerWaitResponse;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::ClientError;
use crate::multiplex::{Decoder, Output};
use crate::printer;

/// Bytes of an answer that is not a stream.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A connection that carries a container's streams.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The socket, blocking.
    pub(crate) socket: BlockingStream,
    /// Bytes that came with the answer's head.
    pub(crate) early: Bytes,
}

/// A container's end that is being waited for.
#[derive(Debug)]
pub(crate) struct PendingWait(Response<Incoming>);

/// What of a log to print.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct LogRequest {
    /// Go on until the container ends.
    pub(crate) follow: bool,
    /// `all` or a number of lines.
    pub(crate) tail: String,
    /// Seconds since 1970 with fraction.
    pub(crate) since: Option<String>,
    /// Seconds since 1970 with fraction.
    pub(crate) until: Option<String>,
    /// Put the time before each line.
    pub(crate) timestamps: bool,
}

/// Attaches to a container's streams.
pub(super) async fn attach(socket: &Path, id: &str, stdin: bool) -> Result<Attached, ClientError> {
    let stdin = if stdin { "&stdin=1" } else { "" };
    let path = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1{stdin}");
    let response = send(socket, Method::POST, &path, true).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ClientError::Connection {
            attempt: "attach through",
            reason: format!("unexpected status {} instead of an upgrade", response.status()),
        });
    }
    let failed = |error: &dyn std::error::Error| ClientError::connection("attach through", error);
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| failed(&error))?;
    let parts =
        upgraded.downcast::<TokioIo<UnixStream>>().expect("the connection was made from this type");
    let socket = parts.io.into_inner().into_std().map_err(|error| failed(&error))?;
    socket.set_nonblocking(false).map_err(|error| failed(&error))?;
    Ok(Attached { socket, early: parts.read_buf })
}

/// Registers to wait for a container.
pub(super) async fn wait(
    socket: &Path,
    id: &str,
    condition: &str,
) -> Result<PendingWait, ClientError> {
    let path = format!("/containers/{id}/wait?condition={condition}");
    send(socket, Method::POST, &path, false).await.map(PendingWait)
}

impl PendingWait {
    /// Waits; gives back the exit code, or why it is not known.
    pub(crate) async fn code(self) -> Result<i64, ClientError> {
        let failed = |reason: String| ClientError::Connection { attempt: "wait through", reason };
        let body = answer(self.0).await?;
        let answer: ContainerWaitResponse =
            serde_json::from_slice(&body).map_err(|_| failed("unexpected EOF".to_owned()))?;
        match answer.error.and_then(|error| error.message).filter(|message| !message.is_empty()) {
            Some(message) => Err(failed(message)),
            None => Ok(answer.status_code),
        }
    }
}

/// Tells all about a container.
pub(super) async fn inspect(socket: &Path, id: &str) -> Result<ContainerInspect, ClientError> {
    let path = format!("/containers/{id}/json");
    let body = answer(send(socket, Method::GET, &path, false).await?).await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::connection("read from", &error))
}

/// Prints a container's log as it comes.
pub(super) async fn logs(
    socket: &Path,
    id: &str,
    request: &LogRequest,
    tty: bool,
) -> Result<(), ClientError> {
    let mut path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail={}", request.tail);
    for (name, wanted) in [("follow", request.follow), ("timestamps", request.timestamps)] {
        if wanted {
            path += &format!("&{name}=1");
        }
    }
    for (name, time) in [("since", &request.since), ("until", &request.until)] {
        if let Some(time) = time {
            path += &format!("&{name}={time}");
        }
    }
    let mut body = send(socket, Method::GET, &path, false).await?.into_body();
    let mut decoder = Decoder::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::connection("read logs from", &error))?;
        let Some(mut bytes) = frame.data_ref().map(|data| &data[..]) else { continue };
        if tty {
            printer::write(Output::Stdout, bytes)?;
            continue;
        }
        while let Some((output, piece)) = decoder.next(&mut bytes)? {
            printer::write(output, piece)?;
        }
    }
    Ok(())
}

/// Sends a request without body on a new connection; a refusal becomes an error.
async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    upgrade: bool,
) -> Result<Response<Incoming>, ClientError> {
    let failed = |error: &dyn std::error::Error| ClientError::connection("connect to", error);
    let stream = UnixStream::connect(socket).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/v{}{path}", husk_api::API_VERSION))
        .header(HOST, "husk");
    if upgrade {
        request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let body = answer(response).await?;
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = document["message"].as_str().unwrap_or("no reason given").to_owned();
    Err(ClientError::Refused { status: status.as_u16(), message })
}

/// Reads a whole, small answer.
async fn answer(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => {
            Err(ClientError::Connection { attempt: "read from", reason: error.to_string() })
        }
    }
}
