//! kill -9 at random moments: the next `husk ps -a` is right, and nothing leaks.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use husk_tests::command::ended_within;
use husk_tests::fixture;
use husk_tests::registry::Scripted;
use husk_tests::{Husk, Result, pace};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Signal, kill_process};

/// Rounds where that is fast; `HUSK_KILL_ROUNDS` asks for others.
const ROUNDS: usize = 50;

/// The latest moment of a kill: by then a run is over, even under software emulation.
const MOMENT_MAX_MS: u64 = 4000;

/// How long a round's container may take to end by itself.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Client,
    Daemon,
    Vmm,
}

/// `$name`, or what `otherwise` gives.
fn number(name: &str, otherwise: impl FnOnce() -> u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is no number: {text}")),
        Err(_) => Ok(otherwise()),
    }
}

#[test]
fn killing_anyone_at_any_moment_leaves_a_true_list_and_nothing_else() -> Result<()> {
    let seed = number("HUSK_KILL_SEED", || rand::rng().random())?;
    let rounds = number("HUSK_KILL_ROUNDS", || {
        pace::scaled("random kills", ROUNDS, 4).try_into().expect("a small number")
    })?;
    eprintln!("HUSK_KILL_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    for round in 0..rounds {
        let victim = [Victim::Client, Victim::Daemon, Victim::Vmm][random.random_range(0..3)];
        let moment = pace::patience(Duration::from_millis(random.random_range(0..MOMENT_MAX_MS)));
        let name = format!("round-{round}");
        kill_round(&husk, victim, moment, &name)
            .with_context(|| format!("seed {seed}, round {round}: {victim:?} after {moment:?}"))?;
    }
    Ok(())
}

fn kill_round(husk: &Husk, victim: Victim, moment: Duration, name: &str) -> Result<()> {
    husk.start_daemon()?;
    let client =
        husk.husk(&["run", "--name", name, "busybox", "sh", "-c", "sleep 1; exit 5"]).start()?;
    let over = ended_within(client.pid(), moment)?;
    let target = match victim {
        Victim::Client if over => None,
        Victim::Client => Some(client.pid()),
        Victim::Daemon => husk.daemon()?,
        Victim::Vmm => husk.vmms()?.first().copied(),
    };
    if let Some(target) = target {
        // It may have ended in between.
        let _ = kill_process(target, Signal::KILL);
        ensure!(
            ended_within(target, pace::patience(END_DEADLINE))?,
            "SIGKILL did not end process {target}"
        );
    }
    let finished = client.wait()?;
    // The very next command: it starts a daemon if that was the victim, and must tell the truth.
    let listed = states(husk)?;
    match listed.iter().find(|(listed, _)| listed == name) {
        None | Some((_, State::Created)) => ensure!(
            !finished.status.success() && finished.code() != 5,
            "its client saw it run, but it is listed as created or not at all: {}",
            finished.report()
        ),
        Some((_, State::Running)) => {
            ensure!(!husk.vmms()?.is_empty(), "listed as running without a VMM");
            wait_for_end(husk, name)?;
        }
        Some((_, State::Exited(code))) => ensure!(
            matches!(victim, Victim::Vmm | Victim::Daemon) || *code == 5 || target.is_none(),
            "ended with {code} though only its client was killed"
        ),
    }
    if husk.husk(&["ps", "-aq", "--filter", &format!("name={name}")]).output()?.trim().is_empty() {
        return Ok(());
    }
    husk.husk(&["rm", "-f", name]).output()?;
    for vmm in husk.vmms()? {
        ensure!(
            ended_within(vmm, pace::patience(END_DEADLINE))?,
            "VMM {vmm} outlives its container"
        );
    }
    Ok(())
}

/// What `husk ps -a` says of a container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Created,
    Running,
    Exited(i32),
}

fn states(husk: &Husk) -> Result<Vec<(String, State)>> {
    let text = husk.husk(&["ps", "-a", "--format", "{{.Names}}\t{{.Status}}"]).output()?;
    text.lines()
        .map(|line| {
            let (name, status) = line.split_once('\t').context("two columns")?;
            Ok((name.to_owned(), state(status)?))
        })
        .collect()
}

fn state(status: &str) -> Result<State> {
    if status.starts_with("Up") {
        return Ok(State::Running);
    }
    if status.starts_with("Created") {
        return Ok(State::Created);
    }
    let code = status.strip_prefix("Exited (").and_then(|rest| rest.split(')').next());
    match code.and_then(|code| code.parse().ok()) {
        Some(code) => Ok(State::Exited(code)),
        None => bail!("unknown status {status:?}"),
    }
}

/// Waits for a container that runs on without its client; its command ends with 5.
fn wait_for_end(husk: &Husk, name: &str) -> Result<()> {
    let wait = husk.husk(&["wait", name]).deadline(END_DEADLINE);
    let code = wait.output()?;
    ensure!(code.trim() == "5", "{name} ended with {code}");
    Ok(())
}

#[test]
fn a_new_daemon_finds_what_runs_and_its_output() -> Result<()> {
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    let script = "echo before; until [ -e /tmp/go ]; do sleep 0.2; [ $((n=n+1)) -gt 25 ] && touch /tmp/go; done; \
                  echo after; exit 6";
    let client =
        husk.husk(&["run", "--name", "survivor", "busybox", "sh", "-c", script]).start()?;
    client.expect_output("before")?;
    let daemon = husk.daemon()?.context("a daemon runs")?;
    kill_process(daemon, Signal::KILL)?;
    ensure!(ended_within(daemon, pace::patience(END_DEADLINE))?);
    ensure!(!client.wait()?.status.success(), "the client cannot know how it ends");
    assert_eq!(states(&husk)?, [("survivor".to_owned(), State::Running)]);
    assert_eq!(husk.husk(&["wait", "survivor"]).output()?.trim(), "6");
    assert_eq!(husk.husk(&["logs", "survivor"]).output()?, "before\nafter\n", "no line is missing");
    assert_eq!(states(&husk)?, [("survivor".to_owned(), State::Exited(6))]);
    Ok(())
}

#[test]
fn a_vmm_that_dies_is_one_clear_error() -> Result<()> {
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    let client = husk
        .husk(&["run", "--name", "survivor", "busybox", "sh", "-c", "echo ready; sleep 1000"])
        .start()?;
    client.expect_output("ready")?;
    let vmm = *husk.vmms()?.first().context("a VMM runs")?;
    kill_process(vmm, Signal::KILL)?;
    let finished = client.wait()?;
    ensure!(!finished.status.success(), "{}", finished.report());
    let listed = states(&husk)?;
    ensure!(matches!(listed.as_slice(), [(_, State::Exited(code))] if *code != 0), "{listed:?}");
    husk.husk(&["rm", "survivor"]).output().map(drop)
}
