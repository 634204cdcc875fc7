//! What `husk` prints about itself, its images and its containers.

use anyhow::ensure;
use husk_tests::fixture;
use husk_tests::registry::Scripted;
use husk_tests::terminal::OnTerminal;
use husk_tests::{Husk, Result};
use std::time::Duration;

fn start() -> Result<(Scripted, Husk)> {
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    Ok((registry, husk))
}

#[test]
fn help_needs_no_daemon_and_names_every_command() -> Result<()> {
    let (_registry, husk) = start()?;
    let help = husk.husk(&["--help"]).output()?;
    for command in ["run", "pull", "images", "ps", "rm", "logs", "doctor", "version"] {
        assert!(help.contains(&format!("  {command}")), "no {command} in {help}");
    }
    let help = husk.husk(&["run", "--help"]).output()?;
    for flag in [
        "--interactive",
        "--tty",
        "--rm",
        "--name",
        "--env",
        "--env-file",
        "--workdir",
        "--user",
        "--hostname",
        "--entrypoint",
        "--memory",
        "--cpus",
        "--pull",
        "--platform",
        "--accel",
    ] {
        assert!(help.contains(flag), "no {flag} in {help}");
    }
    let version = husk.husk(&["--version"]).output()?;
    assert!(version.starts_with("husk 0.") || version.starts_with("husk version 0."), "{version}");
    ensure!(husk.daemon()?.is_none(), "help started a daemon");
    Ok(())
}

#[test]
fn unknown_commands_are_named() -> Result<()> {
    let (_registry, husk) = start()?;
    for (args, parts) in [
        (&["frobnicate"][..], &["frobnicate"][..]),
        (&["exec", "a", "b"], &["husk exec", "not supported yet"]),
        (&["ps", "--frobnicate"], &["--frobnicate"]),
        (&["rm", "no-such"], &["no such container", "no-such"]),
        (&["logs", "no-such"], &["no such container", "no-such"]),
    ] {
        let finished = husk.husk(args).run()?;
        let code = finished.code();
        ensure!(code != 0, "{}", finished.report());
        finished.expect_error(code, parts)?;
    }
    Ok(())
}

#[test]
fn tables_have_dockers_columns() -> Result<()> {
    let (_registry, husk) = start()?;
    husk.husk(&["run", "--name", "first", "busybox", "sh", "-c", "exit 2"])
        .run()?
        .expect_code(2)?;
    let images = husk.husk(&["images"]).output()?;
    let columns: Vec<&str> = images
        .lines()
        .next()
        .unwrap_or_default()
        .split("  ")
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    assert_eq!(columns, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], "{images}");
    assert!(images.lines().nth(1).is_some_and(|line| line.starts_with("busybox")), "{images}");
    let list = husk.husk(&["ps", "-a"]).output()?;
    for part in ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"] {
        assert!(list.lines().next().is_some_and(|line| line.contains(part)), "{list}");
    }
    assert!(list.contains("Exited (2)") && list.contains("first"), "{list}");
    assert_eq!(husk.husk(&["ps"]).output()?.lines().count(), 1, "none runs");
    assert_eq!(husk.husk(&["rm", "first"]).output()?, "first\n");
    Ok(())
}

#[test]
fn a_pull_prints_plain_lines_where_there_is_no_terminal() -> Result<()> {
    let (_registry, husk) = start()?;
    let pull = husk.husk(&["pull", "busybox"]).output()?;
    ensure!(!pull.contains('\x1b') && !pull.contains('\r'), "{pull:?}");
    assert!(pull.contains("Digest: sha256:"), "{pull}");
    let quiet = husk.husk(&["pull", "-q", "busybox"]).output()?;
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
    assert!(quiet.contains("busybox:latest"), "{quiet}");
    Ok(())
}

#[test]
fn a_pull_shows_bars_on_a_terminal() -> Result<()> {
    let (_registry, husk) = start()?;
    let mut command = husk.command(husk.program());
    command.args(["pull", "busybox"]);
    let mut terminal = OnTerminal::start(&command, 24, 80)?;
    terminal.expect("\x1b[", Duration::from_secs(60))?;
    assert_eq!(terminal.wait(Duration::from_secs(60))?.0.code(), Some(0));
    Ok(())
}

#[test]
fn doctor_tells_what_this_host_has() -> Result<()> {
    let (_registry, husk) = start()?;
    let doctor = husk.husk(&["doctor"]).run()?;
    let text = doctor.out().to_lowercase();
    for part in ["kvm", "kernel"] {
        assert!(text.contains(part), "no {part} in {}", doctor.report());
    }
    let version = husk.husk(&["version"]).output()?;
    assert!(version.contains("1.51"), "{version}");
    Ok(())
}
