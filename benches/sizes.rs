//! What Husk itself takes: bytes of each program, and memory of its own in a VMM process.

use std::fs;

use anyhow::{Context, ensure};
use husk_benches::figure;
use husk_tests::fixture;
use husk_tests::registry::Scripted;
use husk_tests::{Husk, Result, programs};
use rustix::process::Pid;

/// The design's goal for a VMM process, guest memory excluded.
const VMM_MIB_MAX: f64 = 5.0;

fn main() -> Result<()> {
    let folder = programs::folder()?;
    for name in ["husk", "husk-vmm", "husk-agent", "vmlinux"] {
        let size = fs::metadata(folder.join(name)).with_context(|| format!("no {name}"))?.len();
        figure::print(&format!("size of {name}"), megabytes(size), "MB", None);
    }
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    let script = "echo ready; sleep 1000";
    let client =
        husk.husk(&["run", "--name", "measured", "busybox", "sh", "-c", script]).start()?;
    client.expect_output("ready")?;
    let vmm = *husk.vmms()?.first().context("a VMM runs")?;
    let daemon = husk.daemon()?.context("a daemon runs")?;
    figure::print("own memory of husk-vmm", own_memory(vmm)? / 1024.0, "MiB", Some(VMM_MIB_MAX));
    figure::print("own memory of the daemon", own_memory(daemon)? / 1024.0, "MiB", None);
    husk.husk(&["rm", "-f", "measured"]).output()?;
    let finished = client.wait()?;
    ensure!(finished.code() == 137, "{}", finished.report());
    Ok(())
}

/// KiB of pages that only this process has, without guest memory, which lies in memfds.
fn own_memory(pid: Pid) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut guest = false;
    let mut total = 0.0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            guest = line.contains("/memfd:");
        } else if !guest && first.starts_with("Private_") {
            total += words.next().context("a number")?.parse::<f64>()?;
        }
    }
    Ok(total)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
