//! What Husk itself takes: bytes of each program, and memory of its own in a VMM process.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use husk_benches::{figure, memory};
use husk_tests::fixture;
use husk_tests::registry::Scripted;
use husk_tests::{Husk, Invocation, Result, programs};

/// The design's goal for a VMM process, guest memory excluded.
const VMM_MIB_MAX: f64 = 5.0;

/// The design's goal for its program.
const PROGRAM_MIB_MAX: f64 = 4.0;

fn main() -> Result<()> {
    let folder = programs::folder()?;
    for name in ["husk", "husk-vmm", "husk-agent", "vmlinux"] {
        let size = fs::metadata(folder.join(name)).with_context(|| format!("no {name}"))?.len();
        figure::print(&format!("size of {name}"), megabytes(size), "MB", None);
    }
    let stripped = stripped_size(&folder.join("husk-vmm"))?;
    let mib = megabytes(stripped) * 1e6 / f64::from(1 << 20);
    figure::print("size of husk-vmm, stripped", mib, "MiB", Some(PROGRAM_MIB_MAX));
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    let script = "echo ready; sleep 1000";
    let client =
        husk.husk(&["run", "--name", "measured", "busybox", "sh", "-c", script]).start()?;
    client.expect_output("ready")?;
    let vmms = husk.vmms()?;
    ensure!(!vmms.is_empty(), "no VMM runs");
    let daemon = husk.daemon()?.context("a daemon runs")?;
    figure::print("own memory of husk-vmm", memory::own_mib(&vmms)?, "MiB", Some(VMM_MIB_MAX));
    figure::print("own memory of the daemon", memory::own_mib(&[daemon])?, "MiB", None);
    husk.husk(&["rm", "-f", "measured"]).output()?;
    let finished = client.wait()?;
    ensure!(finished.code() == 137, "{}", finished.report());
    Ok(())
}

/// Bytes of a program without its symbols.
fn stripped_size(program: &Path) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let stripped = folder.path().join("stripped");
    let mut command = Command::new("strip");
    command.arg("-o").arg(&stripped).arg(program);
    Invocation::new(command).output()?;
    Ok(fs::metadata(&stripped)?.len())
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
