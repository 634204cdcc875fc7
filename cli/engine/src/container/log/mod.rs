//! A container's log: everything its process wrote, as it wrote it.

pub(crate) mod frame;
mod query;
mod reader;
mod writer;

pub(crate) use query::Selection;
pub(crate) use reader::LogReader;
pub(crate) use writer::{LogWriter, Stored};

#[cfg(test)]
mod tests;
