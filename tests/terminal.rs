//! `husk run -it`: a terminal of the right size that follows, echoes, and takes Ctrl-C and Ctrl-D.

use std::time::Duration;

use husk_tests::registry::Scripted;
use husk_tests::terminal::OnTerminal;
use husk_tests::{Husk, Result, fixture, pace, require};

/// How long anything on a terminal may take.
const LIMIT: Duration = Duration::from_secs(90);

fn registry() -> Result<Scripted> {
    let registry = Scripted::start()?;
    registry.add("library/busybox", "latest", &fixture::busybox()?.image);
    Ok(registry)
}

/// `husk run -it --rm busybox sh -c SCRIPT` on a terminal of 40 rows and 100 columns.
fn interactive(husk: &Husk, script: &str) -> Result<OnTerminal> {
    // The image first, or its progress would stand on the terminal too.
    husk.husk(&["pull", "-q", "busybox"]).output()?;
    let mut command = husk.command(husk.program());
    command.args(["run", "-it", "--rm", "busybox", "sh", "-c", script]);
    OnTerminal::start(&command, 40, 100)
}

#[test]
fn the_terminal_has_the_size_of_ours_and_follows_it() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let script =
        "stty size; until [ \"$(stty size)\" = '50 120' ]; do sleep 0.1; done; echo follows";
    let mut terminal = interactive(&husk, script)?;
    terminal.expect("40 100", LIMIT)?;
    terminal.resize(50, 120)?;
    terminal.expect("follows", LIMIT)?;
    assert_eq!(terminal.wait(LIMIT)?.0.code(), Some(0));
    Ok(())
}

#[test]
fn control_c_reaches_the_process() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let script = "trap 'echo caught; exit 9' INT; echo ready; sleep 1000 & wait";
    let mut terminal = interactive(&husk, script)?;
    terminal.expect("ready", LIMIT)?;
    terminal.type_in(b"\x03")?;
    terminal.expect("caught", LIMIT)?;
    assert_eq!(terminal.wait(LIMIT)?.0.code(), Some(9));
    Ok(())
}

#[test]
fn what_is_typed_is_echoed_and_control_d_ends_it() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let mut terminal = interactive(&husk, "tty; cat; echo ended")?;
    let before = terminal.modes();
    terminal.expect("/dev/pts/0", LIMIT)?;
    terminal.type_in(b"typed\r")?;
    // Once as the guest's echo, once from cat; nothing from our own terminal, which is raw.
    terminal.expect("typed\r\ntyped\r\n", LIMIT)?;
    terminal.type_in(b"\x04")?;
    terminal.expect("ended", LIMIT)?;
    let (status, rest) = terminal.wait(LIMIT)?;
    assert_eq!(status.code(), Some(0), "{rest} {before:?}");
    Ok(())
}

#[test]
fn the_callers_terminal_is_as_it_was() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    husk.husk(&["pull", "-q", "busybox"]).output()?;
    // A shell between, so that the terminal is still there to be looked at.
    let script = "stty -g >before; \"$0\" run -it --rm busybox true; stty -g >after; \
                  cmp before after && echo same";
    let mut command = husk.command("sh");
    command.args(["-c", script]).arg(husk.program());
    let mut terminal = OnTerminal::start(&command, 24, 80)?;
    terminal.expect("same", LIMIT)?;
    Ok(())
}

#[test]
fn a_terminal_is_refused_where_there_is_none() -> Result<()> {
    require!(pace::without_guests());
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let run = husk.husk(&["run", "-it", "--rm", "busybox", "true"]).run()?;
    let code = run.code();
    assert!(code != 0, "{}", run.report());
    run.expect_error(code, &["not a TTY"])
}
