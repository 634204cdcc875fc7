//! The `husk` command: the client, and with `husk daemon` the process that hosts the engine.
//!
//! Arguments become plain structs (`args`), a command turns them into calls of the Engine API
//! (`commands`, `client`), and only `printer` writes to the terminal.

#![forbid(unsafe_code)]

mod args;
mod autostart;
mod client;
mod commands;
mod daemon;
mod exit;
mod format;
mod location;
mod multiplex;
mod printer;
mod reference;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse(std::env::args_os()) {
        Ok(cli) => commands::run(cli),
        Err(refused) => refused.report(),
    }
}
