//! What only the KVM accelerator does: vCPUs, both boot protocols, counted exits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "a skipped test says why, figures are printed")]

mod harness;

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use harness::{Guest, Means, PATIENCE, Setting, Vmm, accelerator, means, next_event};
use husk_vmm_config::{Accelerator, Event, Statistics, StopReason, step};

/// What the tests need, if they shall run here.
fn kvm() -> Option<Means> {
    if accelerator() == Accelerator::Kvm {
        return means();
    }
    eprintln!("SKIP: no sound /dev/kvm here");
    None
}

fn statistics(vmm: &Vmm) -> Statistics {
    let mut control = vmm.control();
    control.get_mut().write_all(b"{\"command\":\"statistics\"}\n").unwrap();
    loop {
        if let Event::Statistics(statistics) = next_event(&mut control) {
            return statistics;
        }
    }
}

#[test]
fn a_start_is_told_with_its_steps_exits_and_memory() {
    let Some(means) = kvm() else { return };
    let setting = Setting::bootable(&means);
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);
    let Statistics { steps, exits, memory } = statistics(&vmm);
    eprintln!(
        "steps in us: {:?}",
        steps.iter().map(|step| (&step.name, step.us)).collect::<Vec<_>>()
    );
    eprintln!("exits until the guest called: {exits:?}, {} in all", exits.values().sum::<u64>());
    eprintln!("memory: {} KiB touched, {} KiB dirty", memory.touched >> 10, memory.dirty >> 10);
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    for name in [step::MEMORY, step::VCPUS, step::ENTERED, step::DRIVER, step::CALLED] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(exits["mmio_read"] > 0 && memory.dirty > 0 && memory.touched > memory.dirty);
    if let Ok(path) = std::env::var("HUSK_TEST_LOG") {
        fs::write(path, guest.ask("log").replace('|', "\n")).unwrap();
    }
    guest.tell("reboot");
    let end = vmm.wait();
    assert!(
        matches!(end.report, Event::Stopped { reason: StopReason::Guest, .. }),
        "{}",
        end.stderr
    );
}

#[test]
fn a_kernel_without_the_pvh_note_starts_in_64_bit_code() {
    let Some(means) = kvm() else { return };
    let mut setting = Setting::bootable(&means);
    let mut kernel = fs::read(&means.kernel).unwrap();
    let note = [&4_u32.to_le_bytes()[..], &8_u32.to_le_bytes(), &18_u32.to_le_bytes(), b"Xen\0"];
    let note = note.concat();
    let place =
        kernel.windows(note.len()).position(|window| window == note).expect("our kernel has it");
    kernel[place + 8] = 99;
    let path = setting.path("kernel");
    fs::write(&path, &kernel).unwrap();
    setting.replace_fd(0, fs::File::open(&path).unwrap());
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);
    assert_eq!(guest.ask("cat /sys/devices/system/cpu/online"), "0");
    guest.tell("reboot");
    assert!(vmm.wait().status.success());
}

#[test]
fn every_vcpu_runs_and_time_comes_from_the_host() {
    let Some(means) = kvm() else { return };
    for vcpus in [2, 5] {
        let mut setting = Setting::bootable(&means);
        setting.config.vcpus = vcpus;
        let listener = Guest::listener(&setting);
        let vmm = setting.start();
        let mut guest = Guest::accept(&listener);
        let last = vcpus - 1;
        assert_eq!(guest.ask("cat /sys/devices/system/cpu/online"), format!("0-{last}"));
        let topology = format!("/sys/devices/system/cpu/cpu{last}/topology");
        assert_eq!(guest.ask(&format!("cat {topology}/core_id")), last.to_string());
        assert_eq!(guest.ask(&format!("cat {topology}/thread_siblings_list")), last.to_string());
        let clock =
            guest.ask("cat /sys/devices/system/clocksource/clocksource0/available_clocksource");
        assert!(clock.contains("kvm-clock"), "{clock}");
        guest.tell("reboot");
        assert!(vmm.wait().status.success());
    }
}

#[test]
fn memory_on_both_sides_of_the_gap_is_the_guests() {
    let Some(means) = kvm() else { return };
    let mut setting = Setting::bootable(&means);
    setting.config.memory_mib = 5 << 10;
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);
    let total = guest.ask("cat /proc/meminfo");
    let total: u64 = total.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(total > 4900 << 10, "{total} KiB");
    drop(vmm);
}

/// As far as the guest's kernel goes: it finds the region, and without `ND_CLAIM` in its
/// configuration makes no block device of it.
#[test]
fn persistent_memory_is_a_region_of_the_size_and_in_the_place_that_was_told() {
    let Some(means) = kvm() else { return };
    let mut setting = Setting::bootable(&means);
    let file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> =
        (0..3_000_000_u32).map(|place| u8::try_from(place % 253).unwrap()).collect();
    fs::write(file.path(), &content).unwrap();
    setting.add_pmem(file.path(), 4 << 20);
    let listener = Guest::listener(&setting);
    let vmm = setting.start();
    let mut guest = Guest::accept(&listener);
    // Linux makes the region on a thread of its own, which init may overtake.
    let asked = Instant::now();
    while guest.ask("cat /sys/bus/nd/devices/region0/size").starts_with("error") {
        assert!(asked.elapsed() < PATIENCE / 2, "no region: {}", guest.ask("log"));
    }
    assert_eq!(guest.ask("cat /sys/bus/nd/devices/region0/size"), (4 << 20).to_string());
    // Behind the gap below 4 GiB, for a guest whose memory ends before it.
    assert_eq!(guest.ask("cat /sys/bus/nd/devices/region0/resource"), "0x100000000");
    assert_eq!(fs::read(file.path()).unwrap(), content);
    guest.tell("reboot");
    assert!(vmm.wait().status.success());
}

#[test]
fn what_is_no_kernel_and_what_does_not_fit_are_one_clear_error() {
    let Some(means) = kvm() else { return };
    let mut setting = Setting::bootable(&means);
    let path = setting.path("kernel");
    fs::copy(&means.kernel, &path).unwrap();
    let kernel = fs::File::options().read(true).write(true).open(&path).unwrap();
    // The first segment's length in memory.
    kernel.write_all_at(&(1_u64 << 40).to_le_bytes(), 64 + 40).unwrap();
    setting.replace_fd(0, kernel);
    let end = setting.start().wait();
    let Event::Stopped { reason: StopReason::Setup { error }, .. } = &end.report else {
        panic!("{:?}", end.report)
    };
    assert!(error.contains("segment at 0x1000000, 0x10000000000 bytes, does not fit"), "{error}");
}
