//! The command line of `husk-vmm`: `run` for the engine, `probe` for `husk doctor`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};

const USAGE: &str = "usage: husk-vmm run      run the microVM whose configuration comes on stdin
       husk-vmm probe    print what this host can run microVMs with, as JSON
       husk-vmm --version";

fn main() -> ExitCode {
    husk_vmm::abort_on_panic();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to hear that standard error is closed.
            let _ = writeln!(std::io::stderr(), "husk-vmm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["run"] => Ok(husk_vmm::run()?),
        ["probe"] => print(&serde_json::to_string(&husk_vmm::probe())?),
        ["--version"] => print(concat!("husk-vmm ", env!("CARGO_PKG_VERSION"))),
        ["--help"] => print(USAGE),
        _ => bail!("unknown arguments\n{USAGE}"),
    }
}

fn print(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("failed to write to standard output")
}
