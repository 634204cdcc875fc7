//! A registry in this process: counts what it is asked, and misbehaves as told.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::runtime::Runtime;

use super::Registry;
use crate::Result;
use crate::fixture::{Blob, Image};

/// How the registry answers for one thing instead of serving it.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with an error document as registries send.
    Status(u16),
    /// Only the first so many bytes, and then the connection is cut.
    Truncated(usize),
    /// Other bytes than the digest says.
    Bytes(Bytes),
    /// The right bytes, then these, with a length that covers both.
    Trailing(Bytes),
    /// So many spaces: a document of any size from nothing.
    Spaces(usize),
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Bytes),
    File(PathBuf),
}

#[derive(Debug, Default)]
struct Shelf {
    /// Manifests by `name:tag` and `name@digest`.
    manifests: HashMap<String, Blob>,
    /// Blobs by digest.
    blobs: HashMap<String, Content>,
    /// What goes wrong, by tag or digest.
    faults: HashMap<String, Fault>,
    /// `METHOD path` of every request, in order.
    requests: Vec<String>,
}

/// A registry in this process; dropping it ends it.
#[derive(Debug)]
pub struct Scripted {
    address: String,
    shelf: Arc<Mutex<Shelf>>,
    runtime: Option<Runtime>,
}

impl Scripted {
    /// Starts an empty one.
    ///
    /// # Errors
    /// If there is no port to be had.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shelf));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, shelf, runtime: Some(runtime) })
    }

    /// Serves an image as `name:tag`.
    #[must_use]
    pub fn with(self, name: &str, tag: &str, image: &Image) -> Self {
        self.add(name, tag, image);
        self
    }

    /// Adds an image as `name:tag`.
    pub fn add(&self, name: &str, tag: &str, image: &Image) {
        self.add_manifest(name, tag, &image.manifest);
        let mut shelf = self.shelf.lock().expect("no handler panics");
        let config = Content::Bytes(Bytes::from(image.config.bytes.clone()));
        shelf.blobs.insert(image.config.digest.clone(), config);
        for layer in &image.layers {
            shelf.blobs.insert(layer.digest.clone(), Content::File(layer.path.clone()));
        }
    }

    /// Adds a manifest or index alone.
    pub fn add_manifest(&self, name: &str, tag: &str, manifest: &Blob) {
        let mut shelf = self.shelf.lock().expect("no handler panics");
        shelf.manifests.insert(format!("{name}:{tag}"), manifest.clone());
        shelf.manifests.insert(format!("{name}@{}", manifest.digest), manifest.clone());
    }

    /// From now on answers with `fault` for the tag or digest `key`; `None` mends it.
    pub fn set_fault(&self, key: &str, fault: Option<Fault>) {
        let mut shelf = self.shelf.lock().expect("no handler panics");
        match fault {
            Some(fault) => shelf.faults.insert(key.to_owned(), fault),
            None => shelf.faults.remove(key),
        };
    }

    /// How many `GET` requests there were for paths that end in `end`.
    #[must_use]
    pub fn gets(&self, end: &str) -> usize {
        let shelf = self.shelf.lock().expect("no handler panics");
        let matches = |line: &&String| line.starts_with("GET ") && line.ends_with(end);
        shelf.requests.iter().filter(matches).count()
    }
}

impl Registry for Scripted {
    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// `/v2/`, `/v2/<name>/manifests/<reference>`, `/v2/<name>/blobs/<digest>`: distribution spec,
/// "Pull".
async fn answer(State(shelf): State<Arc<Mutex<Shelf>>>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    let (fault, content) = {
        let mut shelf = shelf.lock().expect("no handler panics");
        shelf.requests.push(format!("{} {path}", request.method()));
        let key = path.rsplit('/').next().unwrap_or_default();
        (shelf.faults.get(key).cloned(), find(&shelf, &path))
    };
    if path == "/v2/" || path == "/v2" {
        return StatusCode::OK.into_response();
    }
    if let Some(Fault::Status(status)) = fault {
        return refuse(status);
    }
    let Some((media_type, digest, content)) = content else { return refuse(404) };
    let bytes = match content {
        Content::Bytes(bytes) => bytes,
        Content::File(path) => match tokio::fs::read(path).await {
            Ok(bytes) => Bytes::from(bytes),
            Err(_) => return refuse(500),
        },
    };
    let (length, body) = body(bytes, fault);
    let body = if request.method() == Method::HEAD { Body::empty() } else { body };
    Response::builder()
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CONTENT_LENGTH, length)
        .header("Docker-Content-Digest", digest)
        .body(body)
        .unwrap_or_else(|_| refuse(500))
}

fn find(shelf: &Shelf, path: &str) -> Option<(String, String, Content)> {
    let rest = path.strip_prefix("/v2/")?;
    if let Some((name, reference)) = rest.split_once("/manifests/") {
        let mark = if reference.contains(':') { '@' } else { ':' };
        let blob = shelf.manifests.get(&format!("{name}{mark}{reference}"))?;
        let content = Content::Bytes(Bytes::from(blob.bytes.clone()));
        return Some((blob.media_type.clone(), blob.digest.clone(), content));
    }
    let (_, digest) = rest.split_once("/blobs/")?;
    let content = shelf.blobs.get(digest)?.clone();
    Some(("application/octet-stream".to_owned(), digest.to_owned(), content))
}

/// The announced length and the body, good or spoilt.
fn body(bytes: Bytes, fault: Option<Fault>) -> (usize, Body) {
    match fault {
        None | Some(Fault::Status(_)) => (bytes.len(), Body::from(bytes)),
        Some(Fault::Bytes(other)) => (other.len(), Body::from(other)),
        Some(Fault::Trailing(more)) => {
            let all = [&bytes[..], &more[..]].concat();
            (all.len(), Body::from(all))
        }
        Some(Fault::Truncated(kept)) => {
            let first = bytes.slice(..kept.min(bytes.len()));
            let cut = async {
                // Lets the first part be sent: what breaks at once is not even answered.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(std::io::Error::other("cut off on purpose"))
            };
            let parts = stream::iter([Ok(first)]).chain(stream::once(cut));
            (bytes.len(), Body::from_stream(parts))
        }
        Some(Fault::Spaces(length)) => {
            let chunk = Bytes::from(vec![b' '; 1 << 20]);
            let chunks = stream::repeat(chunk).take(length.div_ceil(1 << 20));
            let exact = length.div_ceil(1 << 20) << 20;
            (exact, Body::from_stream(chunks.map(Ok::<_, std::io::Error>)))
        }
    }
}

/// An error as the distribution spec words it ("Error Codes").
fn refuse(status: u16) -> Response {
    let code = match status {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        404 => "MANIFEST_UNKNOWN",
        _ => "UNKNOWN",
    };
    let document = serde_json::json!({"errors": [{"code": code, "message": "as told"}]});
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::builder().status(status);
    if status == StatusCode::UNAUTHORIZED {
        response = response.header(header::WWW_AUTHENTICATE, "Basic realm=\"scripted\"");
    }
    response
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(document.to_string()))
        .context("a response of fixed parts")
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
