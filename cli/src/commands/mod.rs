//! tmp
use crate::args::{Cli, Command};
use std::process::ExitCode;
pub(crate) fn run(cli: Cli) -> ExitCode {
    match cli.command { Command::Daemon(args) => crate::daemon::run(&args, cli.host.as_deref()), _ => todo!() }
}
