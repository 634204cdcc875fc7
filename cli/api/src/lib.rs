//! Docker Engine API types, error codes and version.

#![forbid(unsafe_code)]

mod error;
mod inspect;
pub mod signal;

pub use bollard_stubs::models;
pub use error::{ApiError, ErrorCode};
pub use inspect::{BootStep, ContainerInspect, GuestMemory, SandboxReport};

/// The Engine API version announced.
pub const API_VERSION: &str = "1.51";

/// The oldest version that clients may speak.
pub const MIN_API_VERSION: &str = "1.24";
