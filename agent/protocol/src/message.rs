//! The messages themselves.

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// The first frame on a connection: what it is for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "open", rename_all = "snake_case")]
pub enum Open {
    /// Requests and replies.
    Control {
        /// The host's [`crate::GENERATION`].
        generation: u32,
    },
    /// One output stream of a process.
    Output {
        /// The process.
        process: String,
        /// Which of its streams; not `Stdin`.
        stream: Stream,
        /// Bytes that the host has already stored: the first byte it wants.
        offset: u64,
    },
    /// Standard input of a process.
    Input {
        /// The process.
        process: String,
    },
}

/// The answer to [`Open`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Opened {
    /// The agent's [`crate::GENERATION`].
    pub generation: u32,
    /// Set if the connection is refused; it is then closed.
    pub error: Option<AgentError>,
}

/// A stream of a process. With a terminal there is only `Stdin` and `Stdout`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A request, host to agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Request {
    /// Chosen by the host, unique among requests under way on this connection.
    // Named apart on the wire: the body's fields, among them a container's `id`, stand beside it.
    #[serde(rename = "request_id")]
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub body: RequestBody,
}

/// What the host asks. A container has one process here, named as the container is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum RequestBody {
    /// Mounts the root file system, makes namespaces and cgroup, and prepares the process, which
    /// does not run yet. Answered by [`ReplyBody::Done`].
    CreateContainer(Box<CreateContainer>),
    /// Runs the prepared process. Answered by [`ReplyBody::Started`] once the program has been
    /// executed, or by an error that says why it could not be.
    Start {
        /// The process.
        process: String,
    },
    /// Waits for the end of a process. Answered by [`ReplyBody::Exited`], also long after the end.
    Wait {
        /// The process.
        process: String,
    },
    /// Sends a signal to a process.
    Signal {
        /// The process.
        process: String,
        /// The signal's number on Linux.
        signal: i32,
        /// True: every process of the container.
        all: bool,
    },
    /// Sets the size of a process's terminal.
    Resize {
        /// The process.
        process: String,
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Sets the guest's clock.
    SetTime {
        /// Nanoseconds since 1970, UTC.
        unix_ns: u64,
    },
    /// Tells about the guest. Answered by [`ReplyBody::Info`].
    Info,
    /// Ends all containers, syncs and unmounts the disks, answers, and powers the guest off.
    Shutdown,
}

/// A container to create.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CreateContainer {
    /// Its ID: 1 to 64 bytes of `[a-zA-Z0-9_.-]`.
    pub id: String,
    /// Where its root file system comes from.
    pub rootfs: Rootfs,
    /// Who runs the process, as in `--user`: `name`, `uid`, each with `:group` or `:gid`; resolved
    /// in the image's `/etc/passwd` and `/etc/group`. Empty means root.
    pub user: String,
    /// The rest, as an OCI runtime spec: process, mounts, namespaces, resources, paths.
    pub spec: Spec,
    /// Contents of files that the host provides, bound over the root: absolute path and text
    /// (`/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`).
    pub files: Vec<(String, String)>,
    /// True keeps standard input open for [`Open::Input`]; false gives `/dev/null`.
    pub stdin: bool,
}

/// A root file system: an overlay of the image disk and the writable disk.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rootfs {
    /// The serial of the EROFS disk.
    pub image_disk: String,
    /// The serial of the ext4 disk with the writable layer.
    pub writable_disk: String,
}

/// A reply, agent to host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Reply {
    /// The request's ID.
    #[serde(rename = "request_id")]
    pub id: u64,
    /// The answer.
    #[serde(flatten)]
    pub body: ReplyBody,
}

/// What the agent answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum ReplyBody {
    /// It is done.
    Done,
    /// The program runs.
    Started {
        /// Its process ID in the guest.
        pid: u32,
    },
    /// The process has ended; its output streams may still hold bytes.
    Exited(ExitStatus),
    /// About the guest.
    Info(GuestInfo),
    /// It could not be done.
    Error(AgentError),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExitStatus {
    /// Exit code, or 128 + signal.
    pub code: u8,
    /// True if the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970 by the guest's clock.
    pub exited_at_unix_ns: u64,
}

/// About the guest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GuestInfo {
    /// Version of the agent.
    pub agent_version: String,
    /// Release of the kernel.
    pub kernel_release: String,
    /// A random ID made by each boot of a kernel.
    pub boot_id: String,
    /// Time since boot in milliseconds.
    pub uptime_ms: u64,
}

/// Why the agent could not do it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// The kind, by which the host chooses the exit code.
    pub kind: AgentErrorKind,
    /// One line: what was attempted, with which thing, and the system's reason.
    pub message: String,
}

/// Kinds of [`AgentError`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentErrorKind {
    /// The program does not exist (exit code 127).
    CommandNotFound,
    /// The program may not be executed (exit code 126).
    CommandNotExecutable,
    /// The request makes no sense: unknown user, relative path, bad limit.
    InvalidArgument,
    /// No such container or process.
    NotFound,
    /// The container or process is in a state that does not allow it.
    InvalidState,
    /// The guest does not support it.
    Unsupported,
    /// Anything else that failed.
    Internal,
}
