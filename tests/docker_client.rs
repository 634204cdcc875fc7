//! The stock `docker` client on Husk's socket.

use anyhow::ensure;
use husk_tests::fixture;
use husk_tests::registry::{Registry, Scripted};
use husk_tests::terminal::OnTerminal;
use husk_tests::{Husk, Result, pace, require, skip};
use serde_json::Value;
use std::time::Duration;

fn start() -> Result<(Scripted, Husk)> {
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    husk.start_daemon()?;
    Ok((registry, husk))
}

#[test]
fn version_and_info_are_understood() -> Result<()> {
    require!(pace::without_guests());
    require!(skip::without_program("docker"));
    let (_registry, husk) = start()?;
    let version: Value =
        serde_json::from_str(&husk.docker(&["version", "--format", "json"]).output()?)?;
    assert_eq!(version["Server"]["ApiVersion"], "1.51", "{version}");
    assert_eq!(version["Server"]["MinAPIVersion"], "1.24", "{version}");
    assert_eq!(version["Server"]["Os"], "linux");
    let info: Value = serde_json::from_str(&husk.docker(&["info", "--format", "json"]).output()?)?;
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["Architecture"], "x86_64");
    assert_eq!(info["Containers"], 0);
    ensure!(info["ServerErrors"].is_null(), "{info}");
    husk.docker(&["version"]).output()?;
    husk.docker(&["info"]).output().map(drop)
}

#[test]
fn images_are_pulled_and_listed() -> Result<()> {
    require!(pace::without_guests());
    require!(skip::without_program("docker"));
    let (registry, husk) = start()?;
    let pull = husk.docker(&["pull", "busybox"]).output()?;
    for part in ["latest: Pulling from library/busybox", "Pull complete", "Digest: sha256:"] {
        assert!(pull.contains(part), "no {part:?} in {pull}");
    }
    assert!(pull.contains("Status: Downloaded newer image for busybox:latest"), "{pull}");
    let again = husk.docker(&["pull", "busybox"]).output()?;
    assert!(again.contains("Image is up to date for busybox:latest"), "{again}");
    let list = husk.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).output()?;
    assert_eq!(list, "busybox:latest\n");
    let none = registry.reference("none");
    husk.docker(&["pull", &none]).run()?.expect_error(1, &["none", "not found"])
}

#[test]
fn a_container_goes_through_its_life() -> Result<()> {
    require!(skip::without_program("docker"));
    let (_registry, husk) = start()?;
    husk.docker(&["pull", "-q", "busybox"]).output()?;
    let script = "echo to-stdout; echo to-stderr >&2; exit 4";
    let create =
        husk.docker(&["create", "--name", "life", "-l", "a=b", "busybox", "sh", "-c", script]);
    let id = create.output()?.trim().to_owned();
    assert_eq!(id.len(), 64, "{id}");
    let state = |field: &str| husk.docker(&["inspect", "-f", field, "life"]).output();
    assert_eq!(state("{{.State.Status}}")?, "created\n");
    assert_eq!(husk.docker(&["start", "life"]).output()?, "life\n");
    assert_eq!(husk.docker(&["wait", "life"]).output()?, "4\n");
    assert_eq!(state("{{.State.Status}} {{.State.ExitCode}}")?, "exited 4\n");
    let logs = husk.docker(&["logs", "life"]).run()?.expect_code(0)?;
    assert_eq!((logs.out().as_str(), logs.err().as_str()), ("to-stdout\n", "to-stderr\n"));
    assert_eq!(husk.docker(&["ps", "-q"]).output()?, "");
    let list =
        husk.docker(&["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Status}}"]).output()?;
    assert!(list.starts_with("life busybox Exited (4)"), "{list}");
    let found = husk.docker(&["ps", "-aq", "--no-trunc", "--filter", "label=a=b"]).output()?;
    assert_eq!(found.trim(), id);
    assert_eq!(husk.docker(&["rm", &id[..12]]).output()?, format!("{}\n", &id[..12]));
    husk.docker(&["rm", "life"]).run()?.expect_error(1, &["no such container", "life"])
}

#[test]
fn run_gives_output_input_and_exit_code() -> Result<()> {
    require!(skip::without_program("docker"));
    let (_registry, husk) = start()?;
    // Pulls by itself, as the daemon answers 404 with the words that the client knows.
    let run =
        husk.docker(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    let finished = run.run()?.expect_code(3)?;
    assert_eq!(finished.out(), "out\n");
    assert!(finished.err().ends_with("err\n"), "{}", finished.report());
    let run = husk.docker(&["run", "--rm", "-i", "busybox", "cat"]).input("through and back");
    assert_eq!(run.output()?, "through and back");
    husk.docker(&["run", "--rm", "busybox", "no-such"]).run()?.expect_error(127, &["no-such"])?;
    let id = husk.docker(&["run", "-d", "busybox", "sh", "-c", "echo detached"]).output()?;
    assert_eq!(husk.docker(&["wait", id.trim()]).output()?, "0\n");
    assert_eq!(husk.docker(&["logs", id.trim()]).output()?, "detached\n");
    husk.docker(&["rm", id.trim()]).output()?;
    assert_eq!(husk.docker(&["ps", "-aq"]).output()?, "");
    Ok(())
}

#[test]
fn run_on_a_terminal_works() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(90);
    require!(skip::without_program("docker"));
    let (_registry, husk) = start()?;
    husk.docker(&["pull", "-q", "busybox"]).output()?;
    let mut command = husk.command("docker");
    command.env("DOCKER_CONFIG", husk.root().join("home"));
    command.args(["--host", &husk.host(), "run", "-it", "--rm", "busybox", "sh", "-c"]);
    command.arg(
        "stty size; read line; echo got $line; trap 'exit 8' INT; echo ready; sleep 1000 & wait",
    );
    let mut terminal = OnTerminal::start(&command, 33, 99)?;
    terminal.expect("33 99", LIMIT)?;
    terminal.type_in(b"input\r")?;
    terminal.expect("got input", LIMIT)?;
    terminal.expect("ready", LIMIT)?;
    terminal.type_in(b"\x03")?;
    assert_eq!(terminal.wait(LIMIT)?.0.code(), Some(8));
    Ok(())
}

#[test]
fn commands_that_husk_lacks_are_refused_in_words() -> Result<()> {
    require!(pace::without_guests());
    require!(skip::without_program("docker"));
    let (_registry, husk) = start()?;
    husk.docker(&["pull", "-q", "busybox"]).output()?;
    husk.docker(&["create", "--name", "one", "busybox"]).output()?;
    for args in [
        &["volume", "ls"][..],
        &["network", "ls"],
        &["exec", "one", "true"],
        &["stop", "one"],
        &["restart", "one"],
        &["rename", "one", "two"],
        &["pause", "one"],
        &["top", "one"],
        &["cp", "one:/etc/passwd", "copy"],
        &["diff", "one"],
        &["commit", "one", "two"],
        &["export", "-o", "file", "one"],
        &["history", "busybox"],
        &["tag", "busybox", "other"],
        &["rmi", "busybox"],
        &["save", "-o", "file", "busybox"],
        &["system", "df"],
    ] {
        let finished = husk.docker(args).run()?;
        let code = finished.code();
        ensure!(code != 0, "{}", finished.report());
        finished.expect_error(code, &["not supported yet"])?;
    }
    let swarm = husk.docker(&["service", "ls"]).run()?;
    swarm.expect_error(1, &["swarm"])
}
