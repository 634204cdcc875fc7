//! Standard input, output and error: every byte, in order, apart, and their ends.

use std::time::Duration;

use husk_tests::registry::Scripted;
use husk_tests::{Husk, Invocation, Result, fixture, pace};
use rand::RngExt;
use rustix::process::Signal;

/// A registry with busybox alone: these stories are about bytes.
fn registry() -> Result<Scripted> {
    let registry = Scripted::start()?;
    registry.add("library/busybox", "latest", &fixture::busybox()?.image);
    Ok(registry)
}

/// `husk run --rm FLAGS… busybox sh -c SCRIPT`.
fn shell(husk: &Husk, flags: &[&str], script: &str) -> Invocation {
    husk.husk(&["run", "--rm"]).args(flags).args(["busybox", "sh", "-c", script])
}

#[test]
fn large_outputs_arrive_exact_and_apart() -> Result<()> {
    const BLOCK: usize = 1 << 20;
    const ERROR_BLOCK: usize = 10_486;
    let blocks = pace::scaled("MiB of output", 100, 4);
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    husk.husk(&["pull", "-q", "busybox"]).output()?;
    let script = format!(
        "yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c {BLOCK} >/tmp/block
         i=0
         while [ $i -lt {blocks} ]; do
             echo out $i; cat /tmp/block
             {{ echo err $i; head -c {ERROR_BLOCK} /tmp/block; }} >&2
             i=$((i + 1))
         done"
    );
    let run =
        shell(&husk, &[], &script).deadline(Duration::from_secs(300)).run()?.expect_code(0)?;
    let pattern: Vec<u8> =
        b"0123456789abcdefghijklmnopqrstuvwxyz\n".iter().copied().cycle().take(BLOCK).collect();
    let expected = |word: &str, length: usize| {
        let blocks = (0..blocks).flat_map(|number| {
            [format!("{word} {number}\n").as_bytes(), &pattern[..length]].concat()
        });
        blocks.collect::<Vec<u8>>()
    };
    assert!(run.stdout == expected("out", BLOCK), "standard output: {} bytes", run.stdout.len());
    let errors = expected("err", ERROR_BLOCK);
    assert!(run.stderr.ends_with(&errors), "standard error: {} bytes", run.stderr.len());
    // Nothing else is there but the one line that says what the microVM runs on.
    let rest = String::from_utf8_lossy(&run.stderr[..run.stderr.len() - errors.len()]).into_owned();
    assert!(rest.lines().count() <= 1 && (rest.is_empty() || rest.contains("software")), "{rest}");
    Ok(())
}

#[test]
fn large_input_comes_back_the_same() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let mut input = vec![0; pace::scaled("MiB of input", 10, 1) << 20];
    rand::rng().fill(input.as_mut_slice());
    let run = husk.husk(&["run", "-i", "--rm", "busybox", "cat"]).input(input.clone());
    let finished = run.run()?.expect_code(0)?;
    assert!(finished.stdout == input, "{} of {} bytes", finished.stdout.len(), input.len());
    Ok(())
}

#[test]
fn the_end_of_input_reaches_the_command() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let finished = shell(&husk, &["-i"], "cat; echo ended").run()?.expect_code(0)?;
    assert_eq!(finished.out(), "ended\n");
    // Without -i there is no input, whatever the client's is.
    let finished = shell(&husk, &[], "cat; echo ended").input("unread").run()?.expect_code(0)?;
    assert_eq!(finished.out(), "ended\n");
    Ok(())
}

#[test]
fn a_command_that_reads_only_a_part_of_its_input_ends() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let run = husk.husk(&["run", "-i", "--rm", "busybox", "head", "-c", "5"]);
    let finished =
        run.input(vec![b'x'; pace::scaled("MiB of input", 8, 1) << 20]).run()?.expect_code(0)?;
    assert_eq!(finished.out(), "xxxxx");
    Ok(())
}

#[test]
fn a_signal_to_the_client_reaches_the_process() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let script = "trap 'echo interrupted; exit 7' INT; echo ready; sleep 1000 & wait";
    let running = shell(&husk, &[], script).start()?;
    running.expect_output("ready")?;
    running.signal(Signal::INT)?;
    let finished = running.wait()?.expect_code(7)?;
    assert_eq!(finished.out(), "ready\ninterrupted\n");
    Ok(())
}

#[test]
fn output_comes_while_the_command_runs() -> Result<()> {
    let registry = registry()?;
    let husk = Husk::new(&registry)?;
    let running =
        shell(&husk, &["--name", "slow"], "printf no-newline; sleep 1000 & wait").start()?;
    running.expect_output("no-newline")?;
    husk.husk(&["rm", "-f", "slow"]).output()?;
    running.wait()?.expect_code(137)?;
    Ok(())
}
