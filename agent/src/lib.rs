//! The agent: PID 1 of the guest, which runs containers for the host.
//!
//! One thread, one event loop ([`server`]). A container is a root file system ([`container::rootfs`]),
//! a cgroup and a first process; the process's own side of the preparation runs in a clone of the
//! agent ([`container::setup`]), which reports over a socket and then executes the program. The
//! bytes of its streams ([`process`]) travel on connections of their own ([`session`]).
//!
//! What a container can reach is hostile: its files, its processes, its output. What the host asks
//! is trusted in intent and checked for sense.
//!
//! All `unsafe` is in [`sys`].

pub mod clock;
pub mod console;
pub mod container;
pub mod disk;
pub mod init;
pub mod mount;
pub mod process;
pub mod server;
pub mod session;
#[expect(unsafe_code, reason = "the one room for system calls that rustix does not wrap")]
pub mod sys;
