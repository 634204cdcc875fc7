//! The kernel's parameters.

use husk_vmm_config::VmConfig;

/// What every guest gets, with the reason.
const ALWAYS: [&str; 5] = [
    // A port of the virtio console: nothing is written to a serial port.
    "console=hvc0",
    // The log stays in memory; what matters still reaches the console.
    "quiet",
    // A panic is a reboot, and a reboot is the end of a microVM.
    "panic=-1",
    // By triple fault: there is no firmware and no keyboard controller to ask.
    "reboot=t",
    // The host's generator is there through the CPU and virtio-rng.
    "random.trust_cpu=on",
];

/// The system image is the first disk, and the agent on it is PID 1.
const ROOT: [&str; 4] = ["root=/dev/vda", "rootfstype=erofs", "ro", "init=/sbin/husk-agent"];

/// The parameters that the VMM needs itself, then those of `config`: the kernel takes the last of
/// a name. The configuration has been validated, so that none can be taken for several.
pub(crate) fn assemble(config: &VmConfig) -> String {
    let root = if config.disks.is_empty() { &[] } else { &ROOT[..] };
    let own = ALWAYS.iter().chain(root).copied();
    own.chain(config.cmdline.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use husk_vmm_config::{Accelerator, CMDLINE_LENGTH_MAX, FdIndex, Vsock};

    use super::*;

    #[test]
    fn the_configuration_has_the_last_word() {
        let mut config = VmConfig {
            id: "one".into(),
            accelerator: Accelerator::Software,
            vcpus: 1,
            memory_mib: 128,
            kernel: FdIndex(0),
            cmdline: vec!["init=/bin/sh".into(), "loglevel=7".into()],
            disks: Vec::new(),
            vsock: Vsock { guest_cid: 3, listener: FdIndex(1), directory: "/run".into() },
            control: FdIndex(2),
            report: FdIndex(3),
            emulator: None,
            kvm: None,
            nets: Vec::new(),
            pmems: Vec::new(),
            balloon: None,
        };
        let line = assemble(&config);
        assert!(line.starts_with("console=hvc0 ") && line.ends_with("init=/bin/sh loglevel=7"));
        assert!(!line.contains("root="), "without a disk there is no root on one");

        config.disks.push(husk_vmm_config::Disk {
            serial: "system".into(),
            segments: Vec::new(),
            read_only: true,
            rate_limit: None,
        });
        let line = assemble(&config);
        assert!(line.contains(" root=/dev/vda rootfstype=erofs ro init=/sbin/husk-agent "));
        config.cmdline.clear();
        assert!(assemble(&config).len() + CMDLINE_LENGTH_MAX + 300 < 2048, "devices fit as well");
    }
}
