//! Tar streams in, images out, and what the reader finds in them.

mod convert;
mod corrupt;
mod hostile;
mod merge;
mod random;
mod stream;
mod view;
