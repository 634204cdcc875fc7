//! The guest kernel: bytes that are loaded, and instructions from "Memory:" to PID 1.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use husk_benches::figure;
use husk_tests::{Invocation, Result, programs};

/// Bytes that a VMM loads.
const LOADABLE_MB_MAX: f64 = 11.0;

/// Instructions from the memory count to the agent, in millions.
const INSTRUCTIONS_MAX: f64 = 45.0;

fn main() -> Result<()> {
    let mut command = Command::new("guest-kernel/measure");
    command.arg(programs::folder()?.join("vmlinux"));
    let text = Invocation::new(command).deadline(Duration::from_secs(300)).output()?;
    let mut met = true;
    for line in text.lines() {
        let (name, value) = line.split_once(' ').context("measure prints `name value`")?;
        let value: f64 = value.trim().parse().with_context(|| format!("no number: {line}"))?;
        met &= match name {
            "loadable_bytes" => {
                figure::print("kernel: loaded", value / 1e6, "MB", Some(LOADABLE_MB_MAX))
            }
            "memory_bytes" => figure::print("kernel: in memory", value / 1e6, "MB", None),
            "boot_instructions" => figure::print(
                "kernel: boot to PID 1",
                value / 1e6,
                "million instructions",
                Some(INSTRUCTIONS_MAX),
            ),
            "total_instructions" => {
                figure::print("kernel: boot in all", value / 1e6, "million instructions", None)
            }
            _ => figure::print(name, value, "", None),
        };
    }
    // These do not depend on the machine, so a miss is a fault and not a busy host.
    ensure!(met, "the kernel is over its budget");
    Ok(())
}
