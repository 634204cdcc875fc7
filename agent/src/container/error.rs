//! Why a container could not be made or its program not be run, and how the host is told.

use std::error::Error;
use std::io;

use husk_protocol::{AgentError, AgentErrorKind};

use super::device_rule::DeviceRuleError;
use super::program::ProgramError;
use super::resource::ResourceError;
use super::user::UserError;
use crate::disk::DiskError;
use crate::mount::MountError;

/// Bytes of a message to the host at most.
const MESSAGE_MAX: usize = 4096;

/// Why a container could not be made or its program not be run.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// A system call failed.
    #[error("failed to {attempt}")]
    System {
        /// What was attempted, with which thing.
        attempt: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// A mount failed.
    #[error("failed to mount {target}")]
    Mount {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: MountError,
    },
    /// A part of the request makes no sense.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// Which part.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of the request is not supported.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A disk is missing.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The user could not be resolved.
    #[error(transparent)]
    User(#[from] UserError),
    /// Limits that cannot be set.
    #[error("invalid resources")]
    Resource(#[from] ResourceError),
    /// Rules on devices that cannot be compiled.
    #[error("invalid resources")]
    DeviceRule(#[from] DeviceRuleError),
    /// The program could not be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl ContainerError {
    /// An [`ContainerError::Invalid`].
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    fn kind(&self) -> AgentErrorKind {
        match self {
            Self::System { .. } | Self::Mount { .. } => AgentErrorKind::Internal,
            Self::Unsupported(_) | Self::Resource(ResourceError::Unsupported(_)) => {
                AgentErrorKind::Unsupported
            }
            Self::Invalid { .. } | Self::User(_) | Self::Resource(_) | Self::DeviceRule(_) => {
                AgentErrorKind::InvalidArgument
            }
            Self::Disk(DiskError::Absent { .. }) => AgentErrorKind::NotFound,
            Self::Disk(DiskError::List { .. }) => AgentErrorKind::Internal,
            Self::Program(error) => error.kind(),
        }
    }
}

impl From<&ContainerError> for AgentError {
    fn from(error: &ContainerError) -> Self {
        AgentError { kind: error.kind(), message: chain(error) }
    }
}

/// An error with all its causes, in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut message = text(error);
    let mut next = error.source();
    while let Some(cause) = next {
        message = format!("{message}: {}", text(cause));
        next = cause.source();
    }
    message.truncate(message.floor_char_boundary(MESSAGE_MAX));
    message.replace('\n', " ")
}

/// One link of the chain; the system's reasons as Docker's users know them.
fn text(error: &(dyn Error + 'static)) -> String {
    let full = error.to_string();
    if !error.is::<io::Error>() {
        return full;
    }
    let reason = full.split(" (os error").next().unwrap_or_default();
    let mut letters = reason.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Says what was attempted when a system call fails.
pub trait Attempt<T> {
    /// Wraps an error with what was attempted: `"open the device node /dev/null"`.
    ///
    /// # Errors
    /// [`ContainerError::System`] if this is an error.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, ContainerError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, ContainerError> {
        self.map_err(|error| ContainerError::System { attempt: what(), source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_gets_the_whole_chain_in_one_line() {
        let result: Result<(), _> = Err(io::Error::from_raw_os_error(2));
        let error = result.attempt(|| "open\n/x".to_owned()).unwrap_err();
        let told = AgentError::from(&error);
        assert_eq!(told.message, "failed to open /x: no such file or directory");
        assert_eq!(told.kind, AgentErrorKind::Internal);
    }

    #[test]
    fn an_unknown_user_is_an_invalid_argument_in_dockers_words() {
        let told = AgentError::from(&ContainerError::from(UserError::UnknownUser("x".into())));
        assert_eq!(told.kind, AgentErrorKind::InvalidArgument);
        assert_eq!(told.message, "unable to find user x: no matching entries in passwd file");
    }
}
