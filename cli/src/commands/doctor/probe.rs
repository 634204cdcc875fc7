//! Husk's own programs, and what `husk-vmm probe` says about /dev/kvm and the emulator.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::check::Finding;

/// The probe's own loop is bounded; one that takes this long hangs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// What `husk-vmm probe` prints.
#[derive(Debug, Deserialize)]
struct Probe {
    kvm: Kvm,
    emulator: Option<String>,
    emulator_version: Option<String>,
}

/// The state of /dev/kvm.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kvm {
    Absent,
    Unavailable { error: String },
    Interpreting { loop_us: u64 },
    Sound { loop_us: u64 },
}

/// Looks at the programs in `libexec` and runs the probe.
pub(super) async fn findings(libexec: &Path) -> Vec<Finding> {
    let mut findings = vec![
        present(libexec, "kernel", "vmlinux"),
        present(libexec, "agent", "husk-agent"),
        present(libexec, "vmm", "husk-vmm"),
    ];
    let vmm = libexec.join("husk-vmm");
    if vmm.is_file() {
        match probe(&vmm).await {
            Ok(probe) => findings.extend(accelerators(&probe)),
            Err(error) => findings.push(Finding::fail(
                "accelerator",
                format!("{} probe: {error}", vmm.display()),
                "reinstall Husk",
            )),
        }
    }
    findings
}

fn present(libexec: &Path, name: &'static str, file: &str) -> Finding {
    let path = libexec.join(file);
    if path.is_file() {
        Finding::ok(name, path.display().to_string())
    } else {
        Finding::fail(
            name,
            format!("{} is missing", path.display()),
            "reinstall Husk, or name the directory with HUSK_LIBEXEC",
        )
    }
}

async fn probe(vmm: &Path) -> Result<Probe, String> {
    let running = tokio::process::Command::new(vmm)
        .arg("probe")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output: Output = tokio::time::timeout(PROBE_TIMEOUT, running)
        .await
        .map_err(|_| format!("no answer in {} s", PROBE_TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.lines().last().unwrap_or("it failed without a word").to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("unexpected answer: {error}"))
}

/// Both accelerators, and which of them `auto` takes.
fn accelerators(probe: &Probe) -> Vec<Finding> {
    const INSTALL: &str = "install qemu-system-x86";
    let is_sound = matches!(probe.kvm, Kvm::Sound { .. });
    let emulator = match &probe.emulator {
        Some(path) => {
            let version = probe.emulator_version.as_deref().unwrap_or("unknown version");
            Finding::ok("emulator", format!("{path} ({version})"))
        }
        None if is_sound => Finding::ok("emulator", "none found, and none needed"),
        None => Finding::fail("emulator", "none found, so nothing can run", INSTALL),
    };
    let chosen = match (is_sound, &probe.emulator) {
        (true, _) => Finding::ok("accelerator", "kvm, unless another is asked for"),
        (false, Some(_)) => Finding::warn(
            "accelerator",
            "software, since KVM is not usable",
            "expect starts of one to two seconds",
        ),
        (false, None) => Finding::fail("accelerator", "none", INSTALL),
    };
    vec![kvm(&probe.kvm), emulator, chosen]
}

fn kvm(kvm: &Kvm) -> Finding {
    const NAME: &str = "/dev/kvm";
    const SLOWER: &str = "microVMs run in software, which is slower";
    match kvm {
        Kvm::Sound { loop_us } => Finding::ok(
            NAME,
            format!("runs guest code as hardware does (probe loop: {loop_us} µs)"),
        ),
        Kvm::Absent => Finding::warn(
            NAME,
            format!("absent; {SLOWER}"),
            "enable virtualization in the firmware or for this VM",
        ),
        Kvm::Unavailable { error } => Finding::warn(
            NAME,
            format!("unusable ({error}); {SLOWER}"),
            "join the group kvm, or load the kvm module",
        ),
        Kvm::Interpreting { loop_us } => Finding::warn(
            NAME,
            format!(
                "interprets kernel-mode guest code (probe loop: {loop_us} µs), so no stock kernel \
                 boots on it; {SLOWER}"
            ),
            "use a host with hardware virtualization",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn statuses(json: &str) -> Vec<Status> {
        let probe: Probe = serde_json::from_str(json).unwrap();
        accelerators(&probe).iter().map(|finding| finding.status).collect()
    }

    #[test]
    fn an_interpreting_kvm_is_a_drawback_as_long_as_there_is_an_emulator() {
        let with = r#"{"kvm":{"kind":"interpreting","loop_us":1400000},
            "emulator":"/usr/bin/qemu-system-x86_64","emulator_version":"7.2"}"#;
        assert_eq!(statuses(with), [Status::Warn, Status::Ok, Status::Warn]);
        let without = r#"{"kvm":{"kind":"absent"},"emulator":null,"emulator_version":null}"#;
        assert_eq!(statuses(without), [Status::Warn, Status::Fail, Status::Fail]);
    }

    #[test]
    fn a_sound_kvm_needs_no_emulator() {
        let json =
            r#"{"kvm":{"kind":"sound","loop_us":900},"emulator":null,"emulator_version":null}"#;
        assert_eq!(statuses(json), [Status::Ok; 3]);
    }

    #[tokio::test]
    async fn a_missing_installation_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let findings = findings(directory.path()).await;
        assert!(findings.iter().all(|finding| finding.status == Status::Fail));
        assert!(findings[0].detail.contains("vmlinux is missing"));
    }
}
