//! What can go wrong between client and daemon.

use crate::autostart::AutostartError;
use crate::location::LocationError;
use crate::multiplex::FrameError;
use crate::printer::PrintError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The daemon refused; its words, which name the thing and the remedy.
    #[error("Error response from daemon: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The message.
        message: String,
    },
    /// The daemon failed after it had begun to answer.
    #[error("{0}")]
    Failed(String),
    /// The host names no socket.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// There is no daemon, and none could be started.
    #[error(transparent)]
    Autostart(#[from] AutostartError),
    /// The connection broke, or the daemon does not speak this protocol.
    #[error("failed to {attempt} the Husk daemon: {reason}")]
    Connection {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// Not the framing of attached streams.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The reader of our output is gone, or the like.
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl ClientError {
    /// From bollard's errors.
    pub(super) fn call(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: status_code, message: one_line(&message) }
            }
            Error::DockerStreamError { error } => Self::Failed(one_line(&error)),
            other => Self::connection("talk to", &other),
        }
    }

    /// A broken connection; the whole chain of causes in one line.
    pub(super) fn connection(attempt: &'static str, error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            cause = error.source();
        }
        Self::Connection { attempt, reason }
    }

    /// The HTTP status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// An error takes one line on the terminal.
fn one_line(message: &str) -> String {
    message.trim().to_owned()
}
