//! The agent's server, driven over a unix socket instead of vsock, with real containers of a
//! busybox image: everything but the guest around it.
//!
//! Runs three times over: the outer process makes disks and cleans up after all others, the inner
//! one runs the stories in namespaces of its own, the server serves one story. `cargo test -p
//! husk-agent --test container -- NAME` runs the stories whose name contains NAME.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test program of its own, to which clippy's exceptions for tests do not reach"
)]

mod client;
mod guest;
mod host;
mod stories;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--serve", directory] => guest::serve(Path::new(directory)),
        ["--inside", directory, rest @ ..] => inside(Path::new(directory), filter(rest)),
        rest => outside(filter(rest)),
    }
}

/// The first word that is no option: cargo passes those of the usual harness.
fn filter<'a>(words: &[&'a str]) -> Option<&'a str> {
    words.iter().copied().find(|word| !word.starts_with('-'))
}

fn outside(filter: Option<&str>) -> ExitCode {
    if let Some(reason) = host::missing() {
        println!("SKIP: container stories: {reason}");
        return ExitCode::SUCCESS;
    }
    let host = host::Host::prepare();
    let done = host.run_inside(filter);
    drop(host);
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn inside(directory: &Path, filter: Option<&str>) -> ExitCode {
    let chosen = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, story) in stories::all() {
        if !chosen(name) {
            continue;
        }
        let guest = guest::Guest::start(directory);
        let result = std::panic::catch_unwind(|| story(&guest));
        let left = guest.stop();
        match (result, left) {
            (Ok(()), Ok(())) => {
                println!("ok: {name}");
                passed += 1;
            }
            (result, left) => {
                println!(
                    "FAILED: {name}{}",
                    left.err().map(|l| format!(": {l}")).unwrap_or_default()
                );
                drop(result);
                failed.push(name);
            }
        }
    }
    println!("{passed} stories passed, {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
