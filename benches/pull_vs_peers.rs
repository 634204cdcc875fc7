//! A pull of a 300 MB Debian image from a registry on loopback: Husk, podman and skopeo in turns,
//! and how much uncompressed data the daemon takes in for each second of CPU time.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use husk_benches::figure;
use husk_tests::fixture::{self, Compression, Layout};
use husk_tests::registry::{Distribution, Registry};
use husk_tests::{Husk, Invocation, Result};
use rustix::process::Pid;

/// Husk may not take longer than podman.
const RATIO_MAX: f64 = 1.0;

/// Rounds of a full run and of a smoke run.
const ROUNDS: (usize, usize) = (5, 1);

/// `USER_HZ`, in which `/proc` counts CPU time: 100 on x86-64.
const TICKS_PER_SECOND: f64 = 100.0;

const DEADLINE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let layout = fixture::debian_large(compression)?;
        let reference = format!("library/debian:{name}");
        let registry = Distribution::serving("registry-large", &[(&reference, &layout)])?;
        compare(name, &registry, &reference, uncompressed(&layout)?)?;
    }
    Ok(())
}

fn compare(name: &str, registry: &Distribution, reference: &str, bytes: f64) -> Result<()> {
    let image = registry.reference(reference);
    let (mut husk, mut podman, mut skopeo, mut rates) = (vec![], vec![], vec![], vec![]);
    let rounds = figure::rounds(ROUNDS.0, ROUNDS.1);
    for _ in 0..rounds {
        podman.push(pull_with_podman(&image)?);
        skopeo.push(copy_with_skopeo(&image)?);
        let (seconds, cpu_seconds) = pull_with_husk(registry, &image)?;
        husk.push(seconds);
        rates.push(bytes / 1e6 / cpu_seconds);
    }
    figure::remark(&format!(
        "{name}: {:.0} MB uncompressed, {rounds} rounds in turns",
        bytes / 1e6
    ));
    let husk = figure::median(&husk);
    let podman = figure::median(&podman);
    figure::print(&format!("{name}: husk pull"), husk * 1e3, "ms", None);
    figure::print(&format!("{name}: podman pull"), podman * 1e3, "ms", None);
    figure::print(
        &format!("{name}: skopeo copy to a folder"),
        figure::median(&skopeo) * 1e3,
        "ms",
        None,
    );
    figure::print(&format!("{name}: husk over podman"), husk / podman, "times", Some(RATIO_MAX));
    figure::print(&format!("{name}: husk, per core"), figure::median(&rates), "MB/s", None);
    Ok(())
}

/// Seconds, and seconds of the daemon's CPU time.
fn pull_with_husk(registry: &Distribution, image: &str) -> Result<(f64, f64)> {
    let husk = Husk::new(registry)?;
    let daemon = husk.start_daemon()?;
    let before = cpu_seconds(daemon)?;
    let finished = husk.husk(&["pull", "-q", image]).deadline(DEADLINE).run()?.expect_code(0)?;
    Ok((finished.elapsed.as_secs_f64(), cpu_seconds(daemon)? - before))
}

fn pull_with_podman(image: &str) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    // Its store mounts itself; in a namespace of its own that ends with the program.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "podman"]);
    command.arg("--root").arg(folder.path().join("root"));
    command.arg("--runroot").arg(folder.path().join("run"));
    command.args(["pull", "--quiet", "--tls-verify=false", image]);
    let finished = Invocation::new(command).deadline(DEADLINE).run()?.expect_code(0)?;
    Ok(finished.elapsed.as_secs_f64())
}

fn copy_with_skopeo(image: &str) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
    command.arg(format!("docker://{image}")).arg(format!("dir:{}", folder.path().display()));
    let finished = Invocation::new(command).deadline(DEADLINE).run()?.expect_code(0)?;
    Ok(finished.elapsed.as_secs_f64())
}

/// User and system time of a process: fields 14 and 15 of proc(5)'s `stat`.
fn cpu_seconds(pid: Pid) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("a name in parentheses")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// Bytes of all tar streams.
#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn uncompressed(layout: &Layout) -> Result<f64> {
    let mut total = 0;
    for layer in &layout.image.layers {
        total += layer.uncompressed_size()?;
    }
    Ok(total as f64)
}
