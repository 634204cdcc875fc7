//! Which accelerator a sandbox gets: what was asked for, against what this host has.

use std::collections::HashMap;
use std::path::PathBuf;

use husk_api::{ApiError, ErrorCode};
use husk_vmm_config::{Accelerator, KvmStatus, Probe};

/// The annotation of a container that chooses its accelerator.
pub(crate) const ANNOTATION: &str = "husk.accel";

/// What a client or the daemon's settings may ask for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AcceleratorChoice {
    /// KVM where it is usable, else software emulation with a warning.
    #[default]
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
    /// Reads Husk's annotations of a container; `default` holds where they say nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown one, or a value it does not take.
    pub(crate) fn from_annotations(
        annotations: Option<&HashMap<String, String>>,
        default: Self,
    ) -> Result<Self, ApiError> {
        let mut choice = default;
        for (name, value) in annotations.into_iter().flatten() {
            match (name.as_str(), value.as_str()) {
                (ANNOTATION, "auto") => choice = Self::Auto,
                (ANNOTATION, "") => choice = default,
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
            (Self::Auto | Self::Kvm, None, _) => {
                Ok(Resolved { accelerator: Accelerator::Kvm, emulator: None, warning: None })
            }
            (Self::Kvm, Some(problem), _) => unavailable(format!(
                "KVM is not usable on this host ({problem}): choose {ANNOTATION}=software or auto"
            )),
            (Self::Auto, Some(problem), Some(_)) => Ok(software(Some(format!(
                "no usable KVM on this host ({problem}): running under software emulation"
            )))),
            (Self::Auto, Some(problem), None) => {
                unavailable(format!("no usable KVM on this host ({problem}), and {NO_EMULATOR}"))
            }
            (Self::Software, _, Some(_)) => Ok(software(None)),
            (Self::Software, _, None) => unavailable(NO_EMULATOR.to_owned()),
        }
    }
}

/// Why KVM is of no use here; `None` where it is.
pub(crate) fn kvm_problem(status: &KvmStatus) -> Option<String> {
    match status {
        KvmStatus::Sound { .. } => None,
        KvmStatus::Absent => Some("there is no /dev/kvm".to_owned()),
        KvmStatus::Unavailable { error } => Some(format!("/dev/kvm: {error}")),
        KvmStatus::Interpreting { .. } => {
            Some("its /dev/kvm interprets kernel code instead of running it".to_owned())
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
    fn a_sound_kvm_is_used_unless_software_is_asked_for() {
        for emulator in [true, false] {
            let sound = probe(KvmStatus::Sound { loop_us: 900 }, emulator);
            for choice in [AcceleratorChoice::Auto, AcceleratorChoice::Kvm] {
                let resolved = choice.resolve(&sound).unwrap();
                assert_eq!(resolved.accelerator, Accelerator::Kvm);
                assert_eq!((resolved.emulator, resolved.warning), (None, None));
            }
        }
        let sound = probe(KvmStatus::Sound { loop_us: 900 }, true);
        let resolved = AcceleratorChoice::Software.resolve(&sound).unwrap();
        assert_eq!(resolved.accelerator, Accelerator::Software);
    }

    #[test]
    fn the_settings_hold_where_the_container_says_nothing() {
        let choose = |annotations| {
            AcceleratorChoice::from_annotations(annotations, AcceleratorChoice::Kvm).unwrap()
        };
        assert_eq!(choose(None), AcceleratorChoice::Kvm);
        let auto = HashMap::from([(ANNOTATION.to_owned(), "auto".to_owned())]);
        assert_eq!(choose(Some(&auto)), AcceleratorChoice::Auto);
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
        let choice =
            AcceleratorChoice::from_annotations(Some(&annotations), AcceleratorChoice::Auto);
        let choice = choice.unwrap();
        assert_eq!(choice, AcceleratorChoice::Auto);
    }
}
