//! What this host can run microVMs with.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use husk_vmm_config::Probe;

use crate::kvm;

/// The emulator's usual name.
const EMULATOR: &str = "qemu-system-x86_64";

/// Names the emulator instead of the search path.
const EMULATOR_VARIABLE: &str = "HUSK_EMULATOR";

/// Tries `/dev/kvm`, and looks for the emulator.
pub fn probe() -> Probe {
    let emulator = match env::var_os(EMULATOR_VARIABLE) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| is_program(path)),
        None => search(env::var_os("PATH").unwrap_or_default().as_ref()),
    };
    let emulator_version = emulator.as_deref().and_then(version);
    Probe { kvm: kvm::probe(), emulator, emulator_version }
}

fn search(path: &std::ffi::OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|directory| directory.join(EMULATOR)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The first line that it prints about itself.
fn version(emulator: &Path) -> Option<String> {
    let output = Command::new(emulator).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_on_the_path_are_found() {
        assert_eq!(search("/nonexistent:/proc/self".as_ref()), None);
        assert!(is_program(Path::new("/bin/sh")));
        assert!(!is_program(Path::new("/bin")));
        assert!(!is_program(Path::new("/etc/passwd")));
    }

    #[test]
    fn a_version_is_one_line() {
        let line = version(Path::new("/bin/ls")).unwrap();
        assert!(line.starts_with("ls") && !line.contains('\n'));
    }
}
