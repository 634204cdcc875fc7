//! A registry on a loopback port that serves what a test gives it, and misbehaves as told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, io::Error>;

/// What a path answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// 200 with a content type; ranges are honoured.
    Content(Bytes, &'static str),
    /// Announces all of it, sends the first bytes, and breaks off; every time.
    Cut(Bytes, usize),
    /// Breaks off the first time; then honours ranges, or not.
    CutOnce { bytes: Bytes, after: usize, ranges: bool },
    /// Chunked, so that no length is announced.
    Chunked(Bytes),
    /// Chunks of 64 KiB without announcing how many.
    Endless(usize),
    /// A bare status.
    Status(u16, &'static str),
    /// A status for some requests, then the content.
    FailFirst { failures: usize, status: u16, bytes: Bytes, media_type: &'static str },
    /// 307.
    Redirect(String),
    /// Never answers.
    Silent,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

/// Who may pull.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Anyone,
    /// A token, got anonymously.
    Token,
    /// A token, got with `user:secret`.
    TokenForUser,
    /// `user:secret` with each request.
    Basic,
}

pub(crate) const USER_AUTHORIZATION: &str = "Basic dXNlcjpzZWNyZXQ=";
const TOKEN_AUTHORIZATION: &str = "Bearer opaque";

pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    answers: Mutex<HashMap<String, Answer>>,
    seen: Mutex<Vec<Seen>>,
    access: Mutex<Access>,
    chunks_sent: AtomicUsize,
    address: SocketAddr,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answers: Mutex::default(),
            seen: Mutex::default(),
            access: Mutex::new(Access::Anyone),
            chunks_sent: AtomicUsize::new(0),
            address,
        });
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let state = Arc::clone(&state);
                        async move { Ok::<_, Infallible>(state.answer(&request).await) }
                    });
                    // Broken connections are what some tests are about.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self { address, state }
    }

    /// Sets what `path`, below `/v2/`, answers.
    pub(crate) fn set(&self, path: &str, answer: Answer) {
        self.state.answers.lock().unwrap().insert(format!("/v2/{path}"), answer);
    }

    pub(crate) fn set_access(&self, access: Access) {
        *self.state.access.lock().unwrap() = access;
    }

    /// Requests so far whose path contains `part`.
    pub(crate) fn seen(&self, part: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.path.contains(part)).cloned().collect()
    }

    /// Chunks of [`Answer::Endless`] that were taken.
    pub(crate) fn chunks_sent(&self) -> usize {
        self.state.chunks_sent.load(Ordering::SeqCst)
    }
}

impl State {
    async fn answer(self: &Arc<Self>, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let header = |name: &str| {
            request.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let authorization = header("authorization");
        let seen = Seen { path: path.clone(), authorization: authorization.clone() };
        self.seen.lock().unwrap().push(seen);
        let access = *self.access.lock().unwrap();
        if path == "/token" {
            let query = request.uri().query().unwrap_or_default();
            assert!(query.contains("service=test") && query.contains("%3Apull"), "{query}");
            let refused = access == Access::TokenForUser
                && authorization.as_deref() != Some(USER_AUTHORIZATION);
            return if refused {
                plain(401, "")
            } else {
                plain(200, r#"{"token": "opaque", "access_token": "opaque"}"#)
            };
        }
        let (wanted, challenge) = match access {
            Access::Anyone => (None, String::new()),
            Access::Basic => (Some(USER_AUTHORIZATION), "Basic realm=\"test\"".to_owned()),
            Access::Token | Access::TokenForUser => (
                Some(TOKEN_AUTHORIZATION),
                format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.address),
            ),
        };
        if wanted.is_some() && authorization.as_deref() != wanted {
            let mut refused = plain(
                401,
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
            );
            refused.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
            return refused;
        }
        let answer = self.answers.lock().unwrap().get(&path).cloned();
        self.perform(&path, answer, header("range").as_deref()).await
    }

    async fn perform(
        self: &Arc<Self>,
        path: &str,
        answer: Option<Answer>,
        range: Option<&str>,
    ) -> Response<Body> {
        match answer {
            None => plain(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#),
            Some(Answer::Content(bytes, media_type)) => content(&bytes, media_type, range),
            Some(Answer::Cut(bytes, after)) => cut(&bytes, after),
            Some(Answer::CutOnce { bytes, after, ranges }) => {
                let next = Answer::Content(bytes.clone(), "application/octet-stream");
                self.answers.lock().unwrap().insert(path.to_owned(), next);
                if !ranges {
                    let whole = Answer::Chunked(bytes.clone());
                    self.answers.lock().unwrap().insert(path.to_owned(), whole);
                }
                cut(&bytes, after)
            }
            Some(Answer::Chunked(bytes)) => {
                streamed(stream::iter([Ok(Frame::data(bytes))]).boxed(), None)
            }
            Some(Answer::Endless(chunks)) => {
                let state = Arc::clone(self);
                let frames = stream::iter(0..chunks).map(move |_| {
                    state.chunks_sent.fetch_add(1, Ordering::SeqCst);
                    Ok(Frame::data(Bytes::from_static(&[b' '; 64 << 10])))
                });
                streamed(frames.boxed(), None)
            }
            Some(Answer::Status(status, body)) => plain(status, body),
            Some(Answer::FailFirst { failures, status, bytes, media_type }) => {
                let next = match failures {
                    0 | 1 => Answer::Content(bytes, media_type),
                    more => Answer::FailFirst { failures: more - 1, status, bytes, media_type },
                };
                self.answers.lock().unwrap().insert(path.to_owned(), next);
                plain(status, "")
            }
            Some(Answer::Redirect(target)) => {
                let mut response = plain(307, "");
                response.headers_mut().insert("location", target.parse().unwrap());
                response
            }
            Some(Answer::Silent) => std::future::pending().await,
        }
    }
}

fn plain(status: u16, body: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(body.as_bytes())).map_err(|error| match error {});
    Response::builder().status(status).body(body.boxed()).unwrap()
}

fn content(bytes: &Bytes, media_type: &'static str, range: Option<&str>) -> Response<Body> {
    let start = range.map(|range| {
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    let body = Full::new(bytes.slice(start.unwrap_or(0)..)).map_err(|error| match error {});
    let mut response = Response::builder().header("content-type", media_type);
    if let Some(start) = start {
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header("content-range", range);
    }
    response.body(body.boxed()).unwrap()
}

fn cut(bytes: &Bytes, after: usize) -> Response<Body> {
    // What is to arrive must be on its way before the connection breaks.
    let broken = stream::once(async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let frames = stream::iter([Ok(Frame::data(bytes.slice(..after)))]).chain(broken);
    streamed(frames.boxed(), Some(bytes.len()))
}

fn streamed(
    frames: stream::BoxStream<'static, Result<Frame<Bytes>, io::Error>>,
    length: Option<usize>,
) -> Response<Body> {
    let mut response = Response::builder();
    if let Some(length) = length {
        response = response.header("content-length", length);
    }
    // The body is shared between threads; its stream is not.
    response.body(BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(frames))))).unwrap()
}

struct SyncStream(Mutex<stream::BoxStream<'static, Result<Frame<Bytes>, io::Error>>>);

impl stream::Stream for SyncStream {
    type Item = Result<Frame<Bytes>, io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.lock().unwrap().as_mut().poll_next(context)
    }
}
