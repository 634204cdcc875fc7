//! Command-line arguments, with Docker's spelling where Docker has one.
//!
//! `parse` is the only way in; what comes out are plain structs that say what the user asked for
//! and nothing about how it is done.

mod container;
mod environment;
mod host_config;
mod quantity;
mod refused;
mod run;
mod system;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(crate) use container::{InspectArgs, KillArgs, LogsArgs, PsArgs, RmArgs, StartArgs, WaitArgs};
pub(crate) use refused::Refused;
pub(crate) use run::{Accelerator, CreateArgs, PullPolicy, RunArgs};
pub(crate) use system::{DaemonArgs, DoctorArgs, DoctorFormat, FormatArgs, ImagesArgs, PullArgs};

/// Commands that Docker has and Husk has not (yet): known, so that they are refused by name.
const NOT_YET: [&str; 46] = [
    "attach",
    "build",
    "builder",
    "buildx",
    "checkpoint",
    "commit",
    "compose",
    "config",
    "container",
    "context",
    "cp",
    "diff",
    "events",
    "exec",
    "export",
    "history",
    "image",
    "import",
    "load",
    "login",
    "logout",
    "manifest",
    "network",
    "node",
    "pause",
    "plugin",
    "port",
    "push",
    "rename",
    "restart",
    "rmi",
    "save",
    "search",
    "secret",
    "service",
    "stack",
    "stats",
    "stop",
    "swarm",
    "system",
    "tag",
    "top",
    "trust",
    "unpause",
    "update",
    "volume",
];

/// A whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "husk",
    version,
    about = "Every OCI container in a microVM of its own",
    after_help = "Run 'husk COMMAND --help' for more information on a command.",
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Daemon socket to connect to (unix:///path)
    #[arg(short = 'H', long, global = true, env = "HUSK_HOST", hide_env = true)]
    pub(crate) host: Option<String>,
    /// Print usage
    #[arg(long, global = true, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create and run a new container from an image
    #[command(override_usage = "husk run [OPTIONS] IMAGE [COMMAND] [ARG...]")]
    Run(RunArgs),
    /// Create a new container
    #[command(override_usage = "husk create [OPTIONS] IMAGE [COMMAND] [ARG...]")]
    Create(CreateArgs),
    /// Start one or more stopped containers
    Start(StartArgs),
    /// Block until one or more containers stop, then print their exit codes
    Wait(WaitArgs),
    /// Kill one or more running containers
    Kill(KillArgs),
    /// List containers
    Ps(PsArgs),
    /// Remove one or more containers
    Rm(RmArgs),
    /// Fetch the logs of a container
    Logs(LogsArgs),
    /// Return low-level information on Docker objects
    Inspect(InspectArgs),
    /// Download an image from a registry
    Pull(PullArgs),
    /// List images
    Images(ImagesArgs),
    /// Show the Husk version information
    Version(FormatArgs),
    /// Display system-wide information
    Info(FormatArgs),
    /// Explain whether and how this host can run microVMs
    Doctor(DoctorArgs),
    /// Serve the Docker Engine API (started on first use)
    Daemon(DaemonArgs),
}

/// Parses a command line; what comes back as an error was a request for help, or a mistake.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, Refused> {
    let line: Vec<OsString> = line.into_iter().collect();
    if let Some(command) = not_yet(&line) {
        return Err(Refused::not_yet(command));
    }
    let matches =
        Cli::command().try_get_matches_from(&line).map_err(|error| Refused::clap(&line, &error))?;
    Cli::from_arg_matches(&matches).map_err(|error| Refused::clap(&line, &error))
}

/// The first word, if it is a command that Husk does not have.
fn not_yet(line: &[OsString]) -> Option<&'static str> {
    let mut words = line.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        match word {
            "-H" | "--host" => {
                words.next();
            }
            flag if flag.starts_with('-') => {}
            command => return NOT_YET.into_iter().find(|known| *known == command),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Cli, Refused> {
        parse(std::iter::once("husk").chain(line.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_of_docker_that_husk_lacks_are_refused_by_name() {
        let refused = parsed(&["-H", "unix:///x", "exec", "-it", "a", "sh"]).unwrap_err();
        assert_eq!(refused.failure().status, 125);
        assert_eq!(refused.failure().message, "husk: 'husk exec' is not supported yet");
    }

    #[test]
    fn a_container_may_be_called_like_a_command() {
        let Ok(Cli { command: Command::Rm(rm), .. }) = parsed(&["rm", "exec"]) else { panic!() };
        assert_eq!(rm.containers, ["exec"]);
    }

    #[test]
    fn an_unknown_flag_is_refused_in_dockers_words() {
        let refused = parsed(&["ps", "--foo"]).unwrap_err();
        assert!(refused.failure().message.starts_with("unknown flag: --foo\n"));
        assert!(refused.failure().message.ends_with("Run 'husk ps --help' for more information"));
        assert_eq!(refused.failure().status, 125);
    }

    #[test]
    fn the_host_may_stand_before_or_after_the_command() {
        for line in [&["-H", "unix:///x", "info"][..], &["info", "--host=unix:///x"]] {
            assert_eq!(parsed(line).unwrap().host.as_deref(), Some("unix:///x"));
        }
    }
}
