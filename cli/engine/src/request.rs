//! What the façade takes and gives besides the Engine API's own documents.

use bytes::Bytes;
use husk_api::models::{ContainerCreateBody, CreateImageInfo};
use tokio::sync::mpsc;

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
