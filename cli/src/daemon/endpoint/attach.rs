//! Attaching: the connection stops being HTTP and carries the container's streams.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use futures_util::stream;
use husk_api::{ApiError, ErrorCode};
use husk_engine::{Attachment, OutputChunk};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{HeaderMap, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::super::hangup::Hangup;
use super::super::query::Query;
use super::super::reply::{self, Reply};
use super::super::version::ApiVersion;
use super::Call;
use crate::multiplex::{self, HEADER_LEN, Output};
use crate::terminal::detach::{DetachKeys, Scan};

/// Bytes read from a client at once.
const INPUT_BYTES: usize = 32 << 10;

/// How long a client that has seen the end of the output may take to close.
const LINGER: Duration = Duration::from_secs(10);

const RAW: &str = "application/vnd.docker.raw-stream";
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// Which outputs a client wants.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// `POST /containers/{id}/attach`.
pub(super) async fn attach(
    call: Call,
    id: &str,
    query: &Query,
    version: ApiVersion,
    request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    let keys = match query.text("detachKeys") {
        Some(text) => DetachKeys::parse(text)
            .map_err(|error| ApiError::new(ErrorCode::InvalidArgument, error.to_string()))?,
        None => DetachKeys::default(),
    };
    let stdin = query.flag("stdin");
    let attachment =
        call.engine.attach(id, stdin, query.flag("logs"), query.flag("stream")).await?;
    let wanted =
        Wanted { stdout: query.flag("stdout"), stderr: query.flag("stderr"), tty: attachment.tty };
    let media_type = HeaderValue::from_static(media_type(attachment.tty, version));
    if !wants_upgrade(request.headers()) {
        return Ok(without_upgrade(attachment, wanted, media_type));
    }
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => carry(upgraded, attachment, wanted, keys).await,
            Err(error) => tracing::debug!(%error, "client left before the upgrade"),
        }
        drop(call.permit);
    });
    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    reply.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    reply.headers_mut().insert(CONTENT_TYPE, media_type);
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    reply.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
    Ok(reply)
}

/// The content type of a container's output; before API 1.42 always "raw".
pub(super) fn media_type(tty: bool, version: ApiVersion) -> &'static str {
    if !tty && version >= ApiVersion::MULTIPLEXED_TYPE { MULTIPLEXED } else { RAW }
}

/// The header of a frame; a payload always fits, as messages from the guest are far smaller.
pub(super) fn frame_header(stderr: bool, len: usize) -> [u8; HEADER_LEN] {
    let output = if stderr { Output::Stderr } else { Output::Stdout };
    multiplex::header(output, u32::try_from(len).expect("output comes in small pieces"))
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"tcp"))
}

/// A client that asked for no upgrade gets the bytes as a response that ends with the connection:
/// HTTP/1.0 has no chunks, so that also a client that reads the socket itself finds them raw.
fn without_upgrade(attachment: Attachment, wanted: Wanted, media_type: HeaderValue) -> Reply {
    drop(attachment.input);
    let pieces = stream::unfold(attachment.output, move |mut output| async move {
        loop {
            let chunk = output.recv().await?;
            if let Some((header, payload)) = wanted.frame(chunk) {
                let mut piece = header.to_vec();
                piece.extend_from_slice(&payload);
                return Some((Ok::<_, std::io::Error>(Bytes::from(piece)), output));
            }
        }
    });
    let mut reply = reply::empty(StatusCode::OK);
    *reply.body_mut() = Body::from_stream(pieces);
    *reply.version_mut() = Version::HTTP_10;
    reply.headers_mut().insert(CONTENT_TYPE, media_type);
    reply
}

impl Wanted {
    /// What to send for a chunk; nothing if the client does not want this stream.
    fn frame(self, chunk: OutputChunk) -> Option<(Bytes, Bytes)> {
        let wanted = if chunk.stderr { self.stderr } else { self.stdout };
        if !wanted || chunk.bytes.is_empty() {
            return None;
        }
        if self.tty {
            return Some((Bytes::new(), chunk.bytes));
        }
        let header = frame_header(chunk.stderr, chunk.bytes.len());
        Some((Bytes::copy_from_slice(&header), chunk.bytes))
    }
}

/// Moves bytes both ways until the output ends, the client is gone or it detaches.
async fn carry(upgraded: Upgraded, attachment: Attachment, wanted: Wanted, keys: DetachKeys) {
    let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else {
        tracing::error!("an upgraded connection is no unix socket");
        return;
    };
    let socket = parts.io.into_inner();
    let hangup = match Hangup::of(&socket) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::error!(%error, "failed to watch an attached client"),
    };
    let (reader, writer) = socket.into_split();
    let keys = wanted.tty.then_some(keys);
    let mut input = pin!(take_input(parts.read_buf, reader, attachment.input, keys));
    tokio::select! {
        () = give_output(writer, attachment.output, wanted) => {
            // The client has seen the end. What it still sends is read away: closing with bytes
            // unread would reset the connection, and it might take that for a loss.
            let gone = async { tokio::select! { () = hangup.wait() => {}, () = &mut input => {} } };
            let _ = tokio::time::timeout(LINGER, gone).await;
        }
        () = hangup.wait() => {}
        () = &mut input => {}
    }
}

/// Passes output on; an error means the client is gone.
async fn give_output(
    mut writer: OwnedWriteHalf,
    mut output: mpsc::Receiver<OutputChunk>,
    wanted: Wanted,
) {
    while let Some(chunk) = output.recv().await {
        let Some((header, payload)) = wanted.frame(chunk) else { continue };
        // One writev: header and payload are not copied together.
        if writer.write_all_buf(&mut header.chain(payload)).await.is_err() {
            return;
        }
    }
}

/// Passes input on; ends only when the client detaches. The end of the input closes the
/// container's standard input and leaves its output open. What nobody takes is read all the same.
async fn take_input(
    first: Bytes,
    mut reader: OwnedReadHalf,
    input: Option<mpsc::Sender<Bytes>>,
    mut keys: Option<DetachKeys>,
) {
    if let Some(input) = input {
        let mut piece = first;
        loop {
            if !piece.is_empty() {
                let (passed, detached) = match &mut keys {
                    Some(keys) => match keys.scan(&piece) {
                        Scan::Pass(bytes) => (Bytes::from(bytes), false),
                        Scan::Detach(bytes) => (Bytes::from(bytes), true),
                    },
                    None => (piece, false),
                };
                if !passed.is_empty() && input.send(passed).await.is_err() {
                    break;
                }
                if detached {
                    return;
                }
            }
            let mut buffer = vec![0; INPUT_BYTES];
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(len) => {
                    buffer.truncate(len);
                    piece = buffer.into();
                }
            }
        }
    }
    let mut buffer = vec![0; INPUT_BYTES];
    while reader.read(&mut buffer).await.is_ok_and(|len| len > 0) {}
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(tty: bool) -> (mpsc::Sender<OutputChunk>, mpsc::Receiver<Bytes>, Attachment) {
        let (output_sender, output) = mpsc::channel(4);
        let (input, input_receiver) = mpsc::channel(4);
        (output_sender, input_receiver, Attachment { tty, output, input: Some(input) })
    }

    fn wanted(tty: bool) -> Wanted {
        Wanted { stdout: true, stderr: true, tty }
    }

    fn chunk(stderr: bool, text: &'static str) -> OutputChunk {
        OutputChunk { stderr, time_unix_ns: 0, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn the_content_type_depends_on_terminal_and_version() {
        let version = |path| super::super::super::version::negotiate(path).unwrap().0;
        assert_eq!(media_type(false, version("/v1.42/x")), MULTIPLEXED);
        assert_eq!(media_type(false, version("/v1.41/x")), RAW);
        assert_eq!(media_type(true, version("/v1.51/x")), RAW);
    }

    #[test]
    fn streams_not_asked_for_are_left_out() {
        let wanted = Wanted { stdout: false, stderr: true, tty: false };
        assert_eq!(wanted.frame(chunk(false, "x")), None);
        let (header, payload) = wanted.frame(chunk(true, "x")).unwrap();
        assert_eq!((&header[..], &payload[..]), (&[2, 0, 0, 0, 0, 0, 0, 1][..], &b"x"[..]));
    }

    #[tokio::test]
    async fn the_end_of_input_leaves_output_open() {
        let (output, mut input, attachment) = attachment(false);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = ours.into_split();
        let feeding =
            tokio::spawn(take_input(Bytes::from_static(b"early "), reader, attachment.input, None));
        theirs.write_all(b"late").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(input.recv().await.unwrap(), "early ");
        assert_eq!(input.recv().await.unwrap(), "late");
        assert_eq!(input.recv().await, None, "the input ended");
        output.send(chunk(false, "out")).await.unwrap();
        drop(output);
        give_output(writer, attachment.output, wanted(false)).await;
        feeding.abort();
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"\x01\0\0\0\0\0\0\x03out");
    }

    #[tokio::test]
    async fn input_that_nobody_takes_is_read_away() {
        let (_output, input, attachment) = attachment(false);
        drop(input);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (reader, _writer) = ours.into_split();
        let taking = tokio::spawn(take_input(Bytes::new(), reader, attachment.input, None));
        // More than the socket holds: it passes only if the other side reads.
        theirs.write_all(&vec![0; 8 << 20]).await.unwrap();
        taking.abort();
    }

    #[tokio::test]
    async fn detach_keys_end_the_attachment() {
        let (_output, mut input, attachment) = attachment(true);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (reader, _writer) = ours.into_split();
        theirs.write_all(b"ab\x10\x11").await.unwrap();
        take_input(Bytes::new(), reader, attachment.input, Some(DetachKeys::default())).await;
        assert_eq!(input.recv().await.unwrap(), "ab");
        assert_eq!(input.recv().await, None);
    }
}
