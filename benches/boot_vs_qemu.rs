//! From the `exec` of `husk-vmm` to an init that ends at once and the end of the process, over the
//! same of QEMU's `microvm` machine. Same kernel, same init, same KVM, in turns; the ratio counts.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use husk_benches::{figure, machine};
use husk_tests::{Invocation, Result, programs};
use husk_vmm_config::Accelerator;

/// What the VMM, not the guest's kernel, decides; Firecracker is at 0.92.
const RATIO_MAX: f64 = 0.85;

/// Pairs of a full run and of a smoke run.
const PAIRS: (usize, usize) = (10, 3);

fn main() -> Result<()> {
    let accelerator = machine::accelerator()?;
    let folder = tempfile::tempdir()?;
    let init = std::env::current_exe()?.with_file_name("bench-init");
    let image = machine::init_image(folder.path(), &init)?;
    // Both programs and the kernel are in the page cache then.
    husk(accelerator, &image)?;
    qemu(accelerator, &image)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..figure::rounds(PAIRS.0, PAIRS.1) {
        theirs.push(qemu(accelerator, &image)?);
        ours.push(husk(accelerator, &image)?);
    }
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    figure::remark(&format!(
        "exec to end with a guest that ends at once; {} pairs in turns; medians; {} MiB, {}",
        ours.len(),
        machine::MEMORY_MIB,
        accelerator.as_str()
    ));
    figure::print("husk-vmm", figure::median(&ours), "ms", None);
    figure::print("QEMU microvm", figure::median(&theirs), "ms", None);
    let goal = (accelerator == Accelerator::Kvm).then_some(RATIO_MAX);
    figure::print("husk-vmm / QEMU microvm", figure::median(&ratios), "times", goal);
    Ok(())
}

fn husk(accelerator: Accelerator, image: &Path) -> Result<f64> {
    let vmm = machine::Setting::new(accelerator, image)?.start()?;
    Ok(figure::milliseconds(vmm.wait()?))
}

/// QEMU with the least that boots this guest: its own block device, no ACPI, no legacy devices.
fn qemu(accelerator: Accelerator, image: &Path) -> Result<f64> {
    let kvm = accelerator == Accelerator::Kvm;
    let legacy = if kvm { "off" } else { "on" };
    let mut command = Command::new("qemu-system-x86_64");
    command.arg("-M").arg(format!(
        "microvm,acpi=off,pit={legacy},pic={legacy},rtc=off,isa-serial=off,x-option-roms=off,\
         auto-kernel-cmdline=on"
    ));
    command.args(["-accel", if kvm { "kvm" } else { "tcg" }]);
    command.args(["-cpu", if kvm { "host" } else { "max" }, "-smp", "1"]);
    command.arg("-m").arg(machine::MEMORY_MIB.to_string());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-global", "virtio-mmio.force-legacy=false", "-append"]);
    command.arg(
        "quiet tsc=reliable no_timer_check panic=-1 reboot=t root=/dev/vda rootfstype=erofs ro \
         init=/sbin/init",
    );
    command.arg("-kernel").arg(programs::folder()?.join("vmlinux")).arg("-drive");
    command.arg(format!("id=root,file={},format=raw,if=none,readonly=on", image.display()));
    command.args(["-device", "virtio-blk-device,drive=root"]);
    let finished = Invocation::new(command).deadline(Duration::from_secs(60)).run()?;
    ensure!(finished.status.success(), "{}", finished.report());
    Ok(figure::milliseconds(finished.elapsed))
}
