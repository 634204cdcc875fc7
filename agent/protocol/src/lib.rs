//! The contract between the host and the agent in the guest.
//!
//! The agent listens on vsock port [`AGENT_PORT`] and, once it does, connects to host port
//! [`READY_PORT`] and closes again: that is the signal that it may be called. Every connection to
//! it starts with one [`Open`] frame, answered by one [`Opened`] frame:
//!
//! - [`Open::Control`]: then [`Request`]s in, [`Reply`]s out, matched by their ID, in any order.
//! - [`Open::Output`]: then [`chunk`]s of one output stream out, and acknowledgements in: the
//!   total number of bytes that the host has stored, as `u64` little endian. The agent keeps what
//!   is not acknowledged and sends it again on the next connection, so a killed daemon loses
//!   nothing.
//! - [`Open::Input`]: then [`chunk`]s of standard input in.
//!
//! A frame is a `u32` little-endian length, at most [`limits::FRAME_MAX`], and that many bytes of
//! JSON. All that comes from the guest is hostile: bounded and checked here.

#![forbid(unsafe_code)]

pub mod chunk;
pub mod frame;
pub mod limits;
mod message;

pub use message::{
    AgentError, AgentErrorKind, CreateContainer, ExitStatus, GuestInfo, Open, Opened, Reply,
    ReplyBody, Request, RequestBody, Rootfs, Stream,
};

/// The version of this contract; host and agent must name the same.
pub const GENERATION: u32 = 1;

/// The vsock port on which the agent listens.
pub const AGENT_PORT: u32 = 1024;

/// The host port to which the agent connects once, as soon as it listens.
pub const READY_PORT: u32 = 1023;

/// The serial of the disk with the container's image (EROFS, read-only).
pub const IMAGE_DISK: &str = "image";

/// The serial of the container's writable disk (ext4).
pub const WRITABLE_DISK: &str = "writable";

/// The serial of the disk that holds the agent (EROFS, read-only, the guest's root).
pub const SYSTEM_DISK: &str = "system";
