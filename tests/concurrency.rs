//! Many at once: one pull, all runs right, and nothing that grows.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use husk_tests::command::ended_within;
use husk_tests::registry::{Registry, Scripted};
use husk_tests::{Husk, fixture, pace, require};

/// Runs started at once.
const RUNS: usize = 8;

/// How long a VMM may outlive its container.
const TEARDOWN: Duration = Duration::from_secs(10);

/// Open files of a process.
fn open_files(pid: rustix::process::Pid) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

#[test]
fn eight_runs_at_once_pull_once_and_all_end_right() -> Result<()> {
    let image = fixture::busybox()?.image;
    let registry = Scripted::start()?.with("library/busybox", "latest", &image);
    let husk = Husk::new(&registry)?;
    // No daemon runs yet: the eight also start one, and one only.
    let mut running = Vec::new();
    for number in 0..pace::scaled("runs at once", RUNS, 3) {
        let script = format!("echo number {number}; exit {number}");
        running.push(husk.husk(&["run", "--rm", "busybox", "sh", "-c", &script]).start()?);
    }
    for (number, run) in running.into_iter().enumerate() {
        let finished = run.wait()?.expect_code(i32::try_from(number)?)?;
        assert_eq!(finished.out(), format!("number {number}\n"));
    }
    for blob in [&image.layers[0].digest, &image.config.digest] {
        assert_eq!(registry.gets(blob), 1, "{blob} was fetched more than once");
    }
    assert_eq!(husk.husk(&["ps", "-aq"]).output()?, "");
    // The answer does not wait for the teardown.
    for vmm in husk.vmms()? {
        ensure!(ended_within(vmm, pace::patience(TEARDOWN))?, "a VMM outlives its container");
    }
    Ok(())
}

#[test]
fn pulls_of_the_same_layers_at_once_fetch_each_once() -> Result<()> {
    require!(pace::without_guests());
    let image = fixture::busybox()?.image;
    let registry = Scripted::start()?;
    for number in 0..RUNS {
        registry.add("app", &number.to_string(), &image);
    }
    let husk = Husk::new(&registry)?;
    husk.start_daemon()?;
    let mut running = Vec::new();
    for number in 0..RUNS {
        running.push(husk.husk(&["pull", &registry.reference(&format!("app:{number}"))]).start()?);
    }
    for pull in running {
        pull.wait()?.expect_code(0)?;
    }
    assert_eq!(registry.gets(&image.layers[0].digest), 1);
    assert_eq!(husk.husk(&["images", "-q"]).output()?.lines().count(), RUNS);
    Ok(())
}

#[test]
fn the_daemon_keeps_no_file_of_an_ended_container() -> Result<()> {
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    let daemon = husk.start_daemon()?;
    // The first run opens what the daemon keeps: databases, the probe's result, thread pools.
    husk.husk(&["run", "--rm", "busybox", "true"]).output()?;
    let before = open_files(daemon)?;
    for _ in 0..3 {
        husk.husk(&["run", "--rm", "busybox", "true"]).output()?;
    }
    // Connections that the last client left may still be closing.
    let after = open_files(daemon)?;
    ensure!(after <= before + 2, "{before} open files before, {after} after three more runs");
    Ok(())
}
