//! The commands: one file each. A command turns its arguments into calls and prints what comes.

mod attached;
mod create;
mod doctor;
mod images;
mod info;
mod inspect;
mod kill;
mod logs;
mod progress;
mod ps;
mod pull;
mod rm;
mod run;
mod start;
mod version;
mod wait;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::{Cli, Command};
use crate::client::{Client, ClientError};
use crate::exit::{CommandResult, Failure};
use crate::{autostart, daemon, location, printer};

/// Where a command finds the daemon.
#[derive(Debug)]
struct Session {
    host: Option<String>,
}

/// Runs a command and gives the process's exit code.
pub(crate) fn run(cli: Cli) -> ExitCode {
    if let Command::Daemon(args) = &cli.command {
        return daemon::run(args, cli.host.as_deref());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("failed to start: {error}")).report(),
    };
    let session = Session { host: cli.host };
    let result = runtime.block_on(dispatch(&session, &cli.command));
    // A thread that reads the terminal must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => failure.report(),
    }
}

async fn dispatch(session: &Session, command: &Command) -> CommandResult {
    match command {
        Command::Run(args) => run::run(session, args).await,
        Command::Create(args) => create::run(session, args).await,
        Command::Start(args) => start::run(session, args).await,
        Command::Wait(args) => wait::run(session, args).await,
        Command::Kill(args) => kill::run(session, args).await,
        Command::Ps(args) => ps::run(session, args).await,
        Command::Rm(args) => rm::run(session, args).await,
        Command::Logs(args) => logs::run(session, args).await,
        Command::Inspect(args) => inspect::run(session, args).await,
        Command::Pull(args) => pull::run(session, args).await,
        Command::Images(args) => images::run(session, args).await,
        Command::Version(args) => version::run(session, args).await,
        Command::Info(args) => info::run(session, args).await,
        Command::Doctor(args) => doctor::run(session, args).await,
        Command::Daemon(_) => unreachable!("handled before the client's runtime starts"),
    }
}

impl Session {
    /// The daemon's socket.
    fn socket(&self) -> Result<PathBuf, ClientError> {
        Ok(location::socket(self.host.as_deref())?)
    }

    /// A client of the daemon, which is started if there is none.
    fn client(&self) -> Result<Client, ClientError> {
        let socket = self.socket()?;
        autostart::ensure(&socket)?;
        Client::new(&socket)
    }
}

/// Does one thing to each of many; prints names of those that went well, and errors as they come.
async fn each<F>(names: &[String], action: F) -> CommandResult
where
    F: AsyncFn(&str) -> Result<(), ClientError>,
{
    let mut status = 0;
    for name in names {
        match action(name).await {
            Ok(()) => printer::line(name),
            Err(error) => {
                printer::error_line(&error.to_string());
                status = 1;
            }
        }
    }
    Ok(status)
}

/// `--filter key=value`, many times.
fn filters(texts: &[String]) -> Result<HashMap<String, Vec<String>>, Failure> {
    let mut filters: HashMap<String, Vec<String>> = HashMap::new();
    for text in texts {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            let message =
                format!("invalid argument {text:?} for \"-f, --filter\" flag: bad format");
            Failure::with_status(125, format!("{message} of filter (expected name=value)"))
        })?;
        filters.entry(key.trim().to_ascii_lowercase()).or_default().push(value.trim().to_owned());
    }
    Ok(filters)
}
