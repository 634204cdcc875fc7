//! Bounds and deadlines of the engine, and what each prevents.

use std::time::Duration;

/// From the start of `husk-vmm` until the agent answers: a guest that hangs becomes an error.
pub(crate) const BOOT_DEADLINE: Duration = Duration::from_secs(60);

/// One request to the agent that does no more than a few system calls.
pub(crate) const AGENT_REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// The guest's time to end its containers, sync and power off, before it is stopped.
pub(crate) const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// `husk-vmm`'s time to obey `Stop`, before it is killed.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// `husk-vmm probe`'s time to answer: an interpreting KVM takes seconds for its loop.
pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(30);

/// After a container's end, how long an attached client may take nothing before it is let go, so
/// that a stalled client cannot keep a container from ending.
pub(crate) const CLIENT_STALL_DEADLINE: Duration = Duration::from_secs(10);

/// Output chunks on the way to one client (each at most a protocol chunk): beyond, the container
/// waits for its client, as with Docker.
pub(crate) const CLIENT_QUEUE: usize = 16;

/// Input chunks on the way to a container.
pub(crate) const INPUT_QUEUE: usize = 16;

/// Requests that wait for a container's driver; further ones wait in their own tasks.
pub(crate) const DRIVER_QUEUE: usize = 32;

/// Clients attached to one container: bounds the fan-out of its output.
pub(crate) const ATTACHED_MAX: usize = 64;

/// Bytes of one event line of `husk-vmm`: its guest may own it, so its words are bounded too.
pub(crate) const VMM_LINE_MAX: usize = 64 << 10;

/// Bytes of `husk-vmm`'s standard error that an error quotes, from the end.
pub(crate) const VMM_STDERR_MAX: u64 = 2048;

/// Bytes of one message in a log record; a longer one was not written by us.
pub(crate) const LOG_PAYLOAD_MAX: usize = 64 << 10;

/// The least `--memory` (Docker's limit).
pub(crate) const MEMORY_LIMIT_MIN: i64 = 6 << 20;

/// Virtual size of a container's writable disk; only what is written costs space.
pub(crate) const WRITABLE_DISK_BYTES: u64 = 64 << 30;
