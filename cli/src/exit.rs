//! How a command ends: an exit status, and for a failure the text that explains it.

use std::process::ExitCode;

use crate::client::ClientError;
use crate::printer;

/// Husk's own failures of `run` and `create`, as `docker run` reports its own.
pub(crate) const OWN_FAILURE: u8 = 125;

/// A failed command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: u8,
    /// What to print; empty if all was said already.
    pub(crate) message: String,
}

/// The exit status of a command, or why it failed.
pub(crate) type CommandResult = Result<u8, Failure>;

impl Failure {
    /// A failure with status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { status: 1, message: message.into() }
    }

    /// A failure with a status of its own.
    pub(crate) fn with_status(status: u8, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A failure that was already explained.
    pub(crate) fn silent(status: u8) -> Self {
        Self { status, message: String::new() }
    }

    /// The way `run` and `create` report: prefixed, and with a hint at the help.
    pub(crate) fn of_command(self, command: &str) -> Self {
        if self.message.is_empty() {
            return self;
        }
        let message =
            format!("husk: {}\n\nRun 'husk {command} --help' for more information", self.message);
        let status = if self.status == 1 { OWN_FAILURE } else { self.status };
        Self { status, message }
    }

    /// Prints the message and gives the process's exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            printer::error_line(&self.message);
        }
        ExitCode::from(self.status)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.to_string())
    }
}

/// The low byte of a container's exit code, as a shell sees it.
pub(crate) fn of_container(code: i64) -> u8 {
    u8::try_from(code & 0xff).expect("masked to a byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_failure_of_run_ends_with_125_and_names_the_help() {
        let failure = Failure::new("no such thing").of_command("run");
        assert_eq!(failure.status, 125);
        assert_eq!(
            failure.message,
            "husk: no such thing\n\nRun 'husk run --help' for more information"
        );
    }

    #[test]
    fn exit_codes_are_bytes() {
        assert_eq!(of_container(0), 0);
        assert_eq!(of_container(137), 137);
        assert_eq!(of_container(-1), 255);
    }
}
