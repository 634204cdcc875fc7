//! The façade: everything the daemon can ask.

use std::path::PathBuf;

use bytes::Bytes;
use husk_api::ApiError;
use husk_api::models::{
    ContainerCreateBody, ContainerCreateResponse, ContainerInspectResponse, ContainerSummary,
    ContainerWaitResponse, CreateImageInfo, ImageSummary, SystemInfo, SystemVersion,
};
use tokio::sync::mpsc;

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Durable state: images, containers, logs, disks.
    pub data_root: PathBuf,
    /// Sockets and other things that live as long as the machine is up.
    pub exec_root: PathBuf,
    /// The directory with `husk-vmm`, `husk-agent` and `vmlinux`.
    pub libexec: PathBuf,
    /// Base addresses asked before the default registry (`http://127.0.0.1:5000`).
    pub registry_mirrors: Vec<String>,
    /// Registries (`host:port` or CIDR) spoken to without TLS verification, or in plain HTTP.
    pub insecure_registries: Vec<String>,
}

/// A container to create: the Engine API's body, and what travels beside it.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// `?name=`; a name is made up where it is missing.
    pub name: Option<String>,
    /// `?platform=`, as `os/arch[/variant]`.
    pub platform: Option<String>,
    /// The body.
    pub body: ContainerCreateBody,
}

/// What `POST /containers/{id}/wait` waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitCondition {
    /// Not running now (the default).
    NotRunning,
    /// The next end.
    NextExit,
    /// Removal.
    Removed,
}

/// Bytes of one output stream.
#[derive(Clone, Debug)]
pub struct OutputChunk {
    /// True: standard error; false: standard output or the terminal.
    pub stderr: bool,
    /// When the daemon stored it, nanoseconds since 1970.
    pub time_unix_ns: i64,
    /// The bytes.
    pub bytes: Bytes,
}

/// Both directions of an attached client.
#[derive(Debug)]
pub struct Attachment {
    /// True: one raw stream; false: multiplexed.
    pub tty: bool,
    /// Output in order; closed once the container has ended and all was delivered.
    pub output: mpsc::Receiver<OutputChunk>,
    /// Input, if asked for and the container has standard input open; dropping it ends the input.
    pub input: Option<mpsc::Sender<Bytes>>,
}

/// What of a log is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Goes on until the container ends.
    pub follow: bool,
    /// The last so many lines only.
    pub tail: Option<u64>,
    /// Not before, nanoseconds since 1970.
    pub since_unix_ns: Option<i64>,
    /// Not after, nanoseconds since 1970.
    pub until_unix_ns: Option<i64>,
}

/// Progress lines of a pull; the last one is an error line if it failed.
pub type PullProgress = mpsc::Receiver<CreateImageInfo>;

/// The engine; cheap to clone, shared by all requests.
#[derive(Clone, Debug)]
pub struct Engine;

impl Engine {
    /// Opens the state, finds what a former daemon left running, and undoes what it left half done.
    ///
    /// # Errors
    /// If another daemon holds the data root, or the state cannot be read.
    pub async fn open(_config: EngineConfig) -> Result<Self, ApiError> {
        todo!()
    }
    /// Pulls an image (`fromImage`, `tag`, `platform`, decoded `X-Registry-Auth` user and password).
    ///
    /// # Errors
    /// Only if the request itself is malformed; later failures are the last progress line.
    pub async fn pull(
        &self,
        _reference: String,
        _platform: Option<String>,
        _auth: Option<(String, String)>,
    ) -> Result<PullProgress, ApiError> {
        todo!()
    }
    /// Lists images.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn images(&self) -> Result<Vec<ImageSummary>, ApiError> {
        todo!()
    }
    /// Creates a container.
    ///
    /// # Errors
    /// `NotFound` without the image (`No such image: …`), `Conflict` for a used name, and so on.
    pub async fn create(
        &self,
        _request: CreateRequest,
    ) -> Result<ContainerCreateResponse, ApiError> {
        todo!()
    }
    /// Starts a container and answers once its program has been executed.
    ///
    /// # Errors
    /// `NotModified` if it runs, `NotFound`, or why it did not start.
    pub async fn start(&self, _id: &str) -> Result<(), ApiError> {
        todo!()
    }
    /// Attaches to a container, also before it starts. With `logs`, what was written before comes
    /// first; with `stream`, what is written from now on follows.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` in a state that does not allow it.
    pub async fn attach(
        &self,
        _id: &str,
        _stdin: bool,
        _logs: bool,
        _stream: bool,
    ) -> Result<Attachment, ApiError> {
        todo!()
    }
    /// Waits; the outer future ends as soon as the waiting is registered, the inner one at the end.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn wait(
        &self,
        _id: &str,
        _condition: WaitCondition,
    ) -> Result<tokio::sync::oneshot::Receiver<ContainerWaitResponse>, ApiError> {
        todo!()
    }
    /// Sends a signal to the container's process.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if it does not run.
    pub async fn kill(&self, _id: &str, _signal: i32) -> Result<(), ApiError> {
        todo!()
    }
    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if it does not run.
    pub async fn resize(&self, _id: &str, _rows: u16, _columns: u16) -> Result<(), ApiError> {
        todo!()
    }
    /// Reads a container's log; also tells whether it has a terminal.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn logs(
        &self,
        _id: &str,
        _query: LogQuery,
    ) -> Result<(bool, mpsc::Receiver<OutputChunk>), ApiError> {
        todo!()
    }
    /// Lists containers; `all` includes those that do not run. Filters as the Engine API's.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown filter.
    pub async fn list(
        &self,
        _all: bool,
        _limit: Option<usize>,
        _filters: &std::collections::HashMap<String, Vec<String>>,
    ) -> Result<Vec<ContainerSummary>, ApiError> {
        todo!()
    }
    /// Tells all about one container.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn inspect(&self, _id: &str) -> Result<ContainerInspectResponse, ApiError> {
        todo!()
    }
    /// Removes a container; `force` kills it first.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if it runs and `force` is not set.
    pub async fn remove(&self, _id: &str, _force: bool) -> Result<(), ApiError> {
        todo!()
    }
    /// Tells about the engine and the host.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub async fn info(&self) -> Result<SystemInfo, ApiError> {
        todo!()
    }
    /// Tells versions.
    pub fn version(&self) -> SystemVersion {
        todo!()
    }
    /// Stops accepting work; running microVMs stay.
    pub async fn shutdown(&self) {
        todo!()
    }
}
