//! A command line that leads to no command: a mistake, or a request for help.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::{Failure, OWN_FAILURE};
use crate::printer;

/// What to print instead of running a command.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Help or version, on standard output.
    Help(String),
    /// A mistake.
    Mistake(Failure),
}

impl Refused {
    /// A command of Docker's that Husk does not have.
    pub(super) fn not_yet(command: &str) -> Self {
        let message = format!("husk: 'husk {command}' is not supported yet");
        Self::Mistake(Failure::with_status(OWN_FAILURE, message))
    }

    /// What clap found, in Docker's words where it has some.
    pub(super) fn clap(line: &[OsString], error: &clap::Error) -> Self {
        let rendered = error.render().to_string();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Self::Help(rendered),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return Self::Help(rendered),
            _ => {}
        }
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => texts.first().cloned(),
            _ => None,
        };
        let command = command_name(line);
        let what = match (error.kind(), text(ContextKind::InvalidArg)) {
            (ErrorKind::UnknownArgument, Some(flag)) if flag.starts_with("--") => {
                format!("unknown flag: {flag}")
            }
            (ErrorKind::UnknownArgument, Some(flag)) if flag.starts_with('-') => {
                format!("unknown shorthand flag: {:?} in {flag}", flag.trim_start_matches('-'))
            }
            (ErrorKind::MissingRequiredArgument, _) => {
                format!("husk: '{command}' requires at least 1 argument")
            }
            (ErrorKind::InvalidSubcommand, _) => format!(
                "husk: unknown command: husk {}",
                text(ContextKind::InvalidSubcommand).unwrap_or_default()
            ),
            _ => first_line(&rendered),
        };
        let usage = rendered
            .lines()
            .find(|line| line.starts_with("Usage:"))
            .map(|usage| format!("\n\n{usage}"))
            .unwrap_or_default();
        let message = format!("{what}{usage}\n\nRun '{command} --help' for more information");
        Self::Mistake(Failure::with_status(OWN_FAILURE, message))
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Help(text) => {
                printer::text_out(text);
                ExitCode::SUCCESS
            }
            Self::Mistake(failure) => failure.report(),
        }
    }

    /// The mistake; help is none.
    #[cfg(test)]
    pub(super) fn failure(&self) -> &Failure {
        match self {
            Self::Mistake(failure) => failure,
            Self::Help(text) => panic!("help was shown: {text}"),
        }
    }
}

/// `husk run` for `husk -H x run …`.
fn command_name(line: &[OsString]) -> String {
    use clap::CommandFactory as _;
    let commands = super::Cli::command();
    let known = |word: &str| commands.find_subcommand(word).is_some();
    line.iter()
        .skip(1)
        .filter_map(|word| word.to_str())
        .find(|word| known(word))
        .map_or_else(|| "husk".to_owned(), |command| format!("husk {command}"))
}

/// clap's own sentence without its prefix.
fn first_line(rendered: &str) -> String {
    let line = rendered.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
