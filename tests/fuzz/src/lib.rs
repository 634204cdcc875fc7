//! What the fuzz targets share: a hostile driver, fake host sides that keep a model of what is
//! right, and a bound on what one run may hold.
//!
//! A target turns the fuzzer's bytes into a sequence of actions and drives the real code with
//! them. It fails by a panic, by holding more than its budget, by running longer than the fuzzer
//! allows, or where an oracle knows a better answer.

#![forbid(unsafe_code)]

mod budget;
mod disk;
mod document;
mod driver;
mod guest;
mod image;
mod scratch;
mod socket;
mod stream;
mod table;

pub use budget::bounded;
pub use disk::{Disk, DiskFile};
pub use document::Document;
pub use driver::{Action, Driver};
pub use guest::{Length, Part, Place, clear, memory};
pub use image::read_image;
pub use scratch::scratch_file;
pub use socket::{HostState, Peer, PeerState, SocketHost, SocketStream, counted};
pub use stream::{Entry, honest_stream, tar_stream};
pub use table::{MEBIBYTE, Rings};

/// Runs per target that are worth their time: longer sequences find nothing that two do not.
pub const ACTIONS_MAX: usize = 64;
