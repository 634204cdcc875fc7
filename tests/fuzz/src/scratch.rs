//! Files that are memory.

use std::fs::File;

use rustix::fs::{MemfdFlags, memfd_create};

/// An empty file that no directory names.
pub fn scratch_file() -> File {
    memfd_create("scratch", MemfdFlags::CLOEXEC).expect("memory for a file").into()
}
