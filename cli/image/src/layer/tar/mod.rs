//! Tar streams as layers use them: ustar, PAX, GNU long names and sparse files.
//!
//! The iteration is our own: an entry's size decides what the next header is, so a reader that
//! skips a malformed record, or trusts the wrong one of two sizes, can be made to see files that
//! other readers do not. Here a PAX size wins over the header's, and whatever is malformed ends
//! the stream with an error.

mod archive;
mod header;
mod input;
mod number;
mod pax;
mod sparse;

pub use archive::TarError;
pub(super) use archive::{Archive, EntryKind, TarEntry};
pub(super) use sparse::Segment;
