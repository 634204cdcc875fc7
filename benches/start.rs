//! A start as the engine makes it, told by the VMM itself: steps, exits by reason, guest memory.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use husk_api::{ContainerInspect, SandboxReport};
use husk_benches::{figure, memory};
use husk_tests::registry::Scripted;
use husk_tests::{Husk, Result, api, fixture};

/// Accesses to devices and ports that reach `husk-vmm` until the agent is ready.
const IO_EXITS_MAX: f64 = 1500.0;

/// Guest memory that is touched until then.
const TOUCHED_MIB_MAX: f64 = 16.0;

/// What all processes of the VMM have beside it.
const OWN_MIB_MAX: f64 = 5.0;

/// Guest memory of the measured container.
const MEMORY: &str = "128m";

fn main() -> Result<()> {
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    let script = "echo ready; sleep 1000";
    let args = ["run", "--name", "measured", "-m", MEMORY, "busybox", "sh", "-c", script];
    let client = husk.husk(&args).start()?;
    client.expect_output("ready")?;
    let (status, body) = api::request(&husk.socket(), "GET", "/containers/measured/json", "")?;
    ensure!(status == 200, "inspect answers {status}: {body}");
    let inspect: ContainerInspect = serde_json::from_str(&body)?;
    let report = inspect.sandbox.context("inspect tells of the microVM")?;
    let own = memory::own_mib(&husk.vmms()?)?;
    husk.husk(&["rm", "-f", "measured"]).output()?;
    client.wait()?;
    print(&report);
    figure::print("own memory of husk-vmm", own, "MiB", Some(OWN_MIB_MAX));
    Ok(())
}

fn print(report: &SandboxReport) {
    figure::remark(&format!(
        "container of {MEMORY} on {}, to its first output; the guest's boot and its agent",
        report.accelerator
    ));
    let kvm = report.accelerator == "kvm";
    for step in &report.boot_steps {
        figure::print(&format!("step {}", step.name), count(step.microseconds) / 1e3, "ms", None);
    }
    for (reason, number) in &report.exits {
        figure::print(&format!("exits: {reason}"), count(*number), "", None);
    }
    if kvm {
        let io =
            |reason: &str| ["io", "mmio", "unmapped"].iter().any(|kind| reason.starts_with(kind));
        figure::print("exits for I/O", exits(&report.exits, io), "", Some(IO_EXITS_MAX));
        // A serial byte would be one of these: there are fewer, as ports have other uses too.
        let ports = exits(&report.exits, |reason| reason == "io_out");
        figure::print("port writes, serial bytes among them", ports, "", None);
    }
    let mib = |bytes| count(bytes) / f64::from(1 << 20);
    let goal = kvm.then_some(TOUCHED_MIB_MAX);
    figure::print("guest memory touched", mib(report.memory.touched_bytes), "MiB", goal);
    figure::print("guest memory written", mib(report.memory.dirty_bytes), "MiB", None);
}

fn exits(all: &BTreeMap<String, u64>, counts: impl Fn(&str) -> bool) -> f64 {
    count(all.iter().filter(|(reason, _)| counts(reason)).map(|(_, number)| number).sum())
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}
