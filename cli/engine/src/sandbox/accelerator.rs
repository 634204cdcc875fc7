//! Which accelerator a sandbox gets: what was asked for, against what this host has.

use std::collections::HashMap;
use std::path::PathBuf;

use husk_api::{ApiError, ErrorCode};
use husk_vmm_config::{Accelerator, KvmStatus, Probe};

/// The annotation of a container that chooses its accelerator.
pub(crate) const ANNOTATION: &str = "husk.accel";

/// What a client may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AcceleratorChoice {
    /// KVM where it is usable, else software emulation with a warning.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Software emulation.
    Software,
}

/// What a microVM runs on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Resolved {
    /// The accelerator.
    pub(crate) accelerator: Accelerator,
    /// The emulator's program, if the accelerator needs one.
    pub(crate) emulator: Option<PathBuf>,
    /// One line for the client if it did not get what it would rather have.
    pub(crate) warning: Option<String>,
}

impl AcceleratorChoice {
    /// Reads Husk's annotations of a container.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown one, or a value it does not take.
    pub(crate) fn from_annotations(
        annotations: Option<&HashMap<String, String>>,
    ) -> Result<Self, ApiError> {
        let mut choice = Self::Auto;
        for (name, value) in annotations.into_iter().flatten() {
            match (name.as_str(), value.as_str()) {
                (ANNOTATION, "auto" | "") => choice = Self::Auto,
                (ANNOTATION, "kvm") => choice = Self::Kvm,
                (ANNOTATION, "software") => choice = Self::Software,
                (ANNOTATION, other) => {
                    return Err(ApiError::new(
                        ErrorCode::InvalidArgument,
                        format!("{ANNOTATION} is {other:?}: use auto, kvm or software"),
                    ));
                }
                (other, _) if other.starts_with("husk.") => {
                    return Err(ApiError::new(
                        ErrorCode::InvalidArgument,
                        format!("unknown annotation {other}: the one there is, is {ANNOTATION}"),
                    ));
                }
                _ => {}
            }
        }
        Ok(choice)
    }

    /// Chooses, given what this host has.
    ///
    /// # Errors
    /// `Unavailable`, with the reason and the remedy.
    pub(crate) fn resolve(self, probe: &Probe) -> Result<Resolved, ApiError> {
        const NO_EMULATOR: &str = "no emulator is installed: install qemu-system-x86 (Debian: apt install qemu-system-x86)";
        let unavailable = |message| Err(ApiError::new(ErrorCode::Unavailable, message));
        let software = |warning| Resolved {
            accelerator: Accelerator::Software,
            emulator: probe.emulator.clone(),
            warning,
        };
        match (self, kvm_problem(&probe.kvm), &probe.emulator) {
            (Self::Kvm, problem, _) => unavailable(format!(
                "KVM is not usable on this host ({problem}): choose {ANNOTATION}=software or auto"
            )),
            (Self::Auto, problem, Some(_)) => Ok(software(Some(format!(
                "no usable KVM on this host ({problem}): running under software emulation"
            )))),
            (Self::Auto, problem, None) => {
                unavailable(format!("no usable KVM on this host ({problem}), and {NO_EMULATOR}"))
            }
            (Self::Software, _, Some(_)) => Ok(software(None)),
            (Self::Software, _, None) => unavailable(NO_EMULATOR.to_owned()),
        }
    }
}

/// Why KVM is of no use here.
pub(crate) fn kvm_problem(status: &KvmStatus) -> String {
    match status {
        KvmStatus::Sound { .. } => {
            "its /dev/kvm is sound, but this version of husk has no use for it yet".to_owned()
        }
        KvmStatus::Absent => "there is no /dev/kvm".to_owned(),
        KvmStatus::Unavailable { error } => format!("/dev/kvm: {error}"),
        KvmStatus::Interpreting { .. } => {
            "its /dev/kvm interprets kernel code instead of running it".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kvm: KvmStatus, emulator: bool) -> Probe {
        Probe {
            kvm,
            emulator: emulator.then(|| PathBuf::from("/usr/bin/qemu-system-x86_64")),
            emulator_version: None,
        }
    }

    #[test]
    fn auto_falls_back_with_a_warning() {
        for kvm in [
            KvmStatus::Sound { loop_us: 1 },
            KvmStatus::Absent,
            KvmStatus::Unavailable { error: "permission denied".to_owned() },
            KvmStatus::Interpreting { loop_us: 1_400_000 },
        ] {
            let resolved = AcceleratorChoice::Auto.resolve(&probe(kvm, true)).unwrap();
            assert_eq!(resolved.accelerator, Accelerator::Software);
            let warning = resolved.warning.unwrap();
            assert!(warning.starts_with("no usable KVM on this host ("), "{warning}");
            assert!(warning.ends_with("): running under software emulation"), "{warning}");
        }
    }

    #[test]
    fn kvm_never_falls_back() {
        let interpreting = probe(KvmStatus::Interpreting { loop_us: 9 }, true);
        let error = AcceleratorChoice::Kvm.resolve(&interpreting).unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(AcceleratorChoice::Software.resolve(&interpreting).unwrap().warning.is_none());
    }

    #[test]
    fn nothing_to_run_on_names_the_remedy() {
        let nothing = probe(KvmStatus::Absent, false);
        for choice in [AcceleratorChoice::Auto, AcceleratorChoice::Software] {
            let error = choice.resolve(&nothing).unwrap_err();
            assert!(error.message.contains("install qemu-system-x86"), "{error}");
        }
    }

    #[test]
    fn foreign_annotations_pass() {
        let annotations = HashMap::from([("org.example".to_owned(), "x".to_owned())]);
        let choice = AcceleratorChoice::from_annotations(Some(&annotations)).unwrap();
        assert_eq!(choice, AcceleratorChoice::Auto);
    }
}
