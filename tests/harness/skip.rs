//! Stories that cannot run on this machine say so, and are counted.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Leaves the calling test with `SKIP: reason`, printed past the test runner's capture so that
/// the closing count finds it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skip::announce(&format!($($reason)*));
        return Ok(());
    }};
}

/// Leaves the calling test if something it needs is missing.
#[macro_export]
macro_rules! require {
    ($missing:expr) => {
        if let Some(reason) = $missing {
            $crate::skip!("{reason}");
        }
    };
}

/// Prints the line that the closing count looks for.
pub fn announce(reason: &str) {
    say(&format!("SKIP: {reason}"));
}

/// Prints a line past the test runner's capture.
///
/// # Panics
/// If standard error is closed.
pub fn say(line: &str) {
    // One write, or lines of tests that run at once would mix.
    let line = format!("\n{line}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error is open");
}

/// Why a story that needs root cannot run, if so.
#[must_use]
pub fn without_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned())
}

/// Why a story that needs `program` cannot run, if so.
#[must_use]
pub fn without_program(program: &str) -> Option<String> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder| folder.join(program).is_file());
    (!found).then(|| format!("{program} is not installed"))
}

/// Why a story that needs mounts of its own cannot run, if so.
#[must_use]
pub fn without_private_mounts() -> Option<String> {
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let allowed = Path::new("/mnt").is_dir() && status.is_ok_and(|status| status.success());
    (!allowed).then(|| "mounts in a namespace of its own are not allowed here".to_owned())
}
