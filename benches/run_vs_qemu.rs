//! `husk run --rm busybox true`, from client start to exit, over QEMU's own boot of the same kernel
//! to a PID 1 that ends at once. Same accelerator, same run, in turns; the ratio is what counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use husk_benches::figure;
use husk_tests::fixture;
use husk_tests::registry::Scripted;
use husk_tests::{Husk, Invocation, Result, programs};

/// A container may take half as long again as the bare boot.
const RATIO_MAX: f64 = 1.5;

/// Pairs of a full run and of a smoke run.
const PAIRS: (usize, usize) = (10, 3);

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = init_image(folder.path())?;
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    // Pulls, starts the daemon and fills what is filled once; not part of any figure.
    run(&husk)?;
    boot(&root)?;
    let (mut runs, mut boots) = (Vec::new(), Vec::new());
    for _ in 0..figure::rounds(PAIRS.0, PAIRS.1) {
        boots.push(boot(&root)?);
        runs.push(run(&husk)?);
    }
    let ratios: Vec<f64> = runs.iter().zip(&boots).map(|(run, boot)| run / boot).collect();
    figure::remark(&format!("{} pairs in turns; medians; 1 GiB, under TCG", runs.len()));
    figure::print("husk run --rm true, client to exit", figure::median(&runs), "ms", None);
    figure::print("QEMU's boot to an init that ends", figure::median(&boots), "ms", None);
    figure::print("ratio", figure::median(&ratios), "times", Some(RATIO_MAX));
    Ok(())
}

fn run(husk: &Husk) -> Result<f64> {
    let args = ["run", "--rm", "--accel", "software", "busybox", "true"];
    let finished = husk.husk(&args).run()?;
    ensure!(finished.status.success(), "{}", finished.report());
    Ok(figure::milliseconds(finished.elapsed))
}

/// Boots with QEMU's own block device, on the machine and in the memory that a container gets.
fn boot(root: &Path) -> Result<f64> {
    let kernel = programs::folder()?.join("vmlinux");
    let machine = "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=off,x-option-roms=off,\
                   auto-kernel-cmdline=on";
    let cmdline = format!(
        "quiet tsc_early_khz={} tsc=reliable no_timer_check panic=-1 reboot=t root=/dev/vda \
         rootfstype=erofs ro init=/sbin/init",
        tsc_khz()?
    );
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-M", machine, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-global", "virtio-mmio.force-legacy=false", "-append", &cmdline]);
    command.arg("-kernel").arg(kernel).arg("-drive");
    command.arg(format!("id=root,file={},format=raw,if=none,readonly=on", root.display()));
    command.args(["-device", "virtio-blk-device,drive=root"]);
    let finished = Invocation::new(command).deadline(Duration::from_secs(60)).run()?;
    ensure!(finished.status.success(), "{}", finished.report());
    Ok(figure::milliseconds(finished.elapsed))
}

/// An EROFS image that holds `bench-init` as `/sbin/init`.
fn init_image(folder: &Path) -> Result<PathBuf> {
    let tree = folder.join("tree");
    for name in ["sbin", "dev", "proc", "sys"] {
        fs::create_dir_all(tree.join(name))?;
    }
    let init = std::env::current_exe()?.with_file_name("bench-init");
    fs::copy(&init, tree.join("sbin/init")).with_context(|| format!("no {}", init.display()))?;
    let image = folder.join("root.erofs");
    let mut command = Command::new("mkfs.erofs");
    command.arg("--quiet").arg(&image).arg(&tree);
    Invocation::new(command).output()?;
    Ok(image)
}

/// The host's time stamp frequency, which the guest's is under TCG.
fn tsc_khz() -> Result<u64> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz")).context("a line `cpu MHz`")?;
    let (_, number) = line.split_once(": ").context("a number of MHz")?;
    let (mhz, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), "0"));
    let khz: u64 = format!("{fraction:0<3}")[..3].parse()?;
    Ok(mhz.parse::<u64>()? * 1000 + khz)
}
