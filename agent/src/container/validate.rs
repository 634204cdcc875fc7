//! Checks a request before anything is done: what makes no sense, and what is not supported.

use std::path::Path;

use husk_protocol::CreateContainer;
use oci_spec::runtime::{Linux, Process, Spec};

use super::error::ContainerError;
use super::namespace::Namespaces;

/// Bytes of a container's ID at most.
const ID_MAX: usize = 64;

/// Checks `request`. Returns the namespaces that it asks for.
///
/// # Errors
/// [`ContainerError`]
pub fn validate(request: &CreateContainer) -> Result<Namespaces, ContainerError> {
    id(&request.id)?;
    let spec = &request.spec;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| ContainerError::invalid("spec", "it has no process"))?;
    check_process(process)?;
    for (path, _) in &request.files {
        absolute("file", Path::new(path))?;
    }
    for mount in spec.mounts().iter().flatten() {
        absolute("mount destination", mount.destination())?;
    }
    refuse_unsupported(spec, process)?;
    let empty = Vec::new();
    let linux = spec.linux().as_ref();
    Namespaces::new(linux.and_then(|linux| linux.namespaces().as_ref()).unwrap_or(&empty))
}

fn id(id: &str) -> Result<(), ContainerError> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let special = id == "." || id == "..";
    if id.is_empty() || id.len() > ID_MAX || special || !id.bytes().all(sound) {
        return Err(ContainerError::invalid(
            format!("container ID {id:?}"),
            format!("it must be 1 to {ID_MAX} bytes of [a-zA-Z0-9_.-]"),
        ));
    }
    Ok(())
}

fn check_process(process: &Process) -> Result<(), ContainerError> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        return Err(ContainerError::invalid("process", "it has no arguments"));
    }
    absolute("working directory", process.cwd())?;
    let env = process.env().as_deref().unwrap_or_default();
    if args.iter().chain(env).any(|text| text.contains('\0')) {
        return Err(ContainerError::invalid("process", "an argument or variable holds a NUL byte"));
    }
    Ok(())
}

fn absolute(field: &str, path: &Path) -> Result<(), ContainerError> {
    if path.is_absolute() {
        return Ok(());
    }
    let field = format!("{field} {:?}", path.display().to_string());
    Err(ContainerError::invalid(field, "it must be an absolute path"))
}

/// Refuses what would otherwise be left out in silence.
fn refuse_unsupported(spec: &Spec, process: &Process) -> Result<(), ContainerError> {
    let asked = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let hooks = spec.hooks().as_ref().is_some_and(|hooks| {
        let lists = [
            hooks.create_runtime(),
            hooks.create_container(),
            hooks.start_container(),
            hooks.poststart(),
            hooks.poststop(),
        ];
        lists.into_iter().flatten().any(|list| !list.is_empty())
    });
    let linux = |asks: fn(&Linux) -> bool| spec.linux().as_ref().is_some_and(asks);
    let unsupported = [
        (hooks, "a hook"),
        (asked(process.apparmor_profile()), "an AppArmor profile"),
        (asked(process.selinux_label()), "an SELinux label"),
        (process.io_priority().is_some(), "an I/O priority"),
        (process.scheduler().is_some(), "a scheduler"),
        (process.exec_cpu_affinity().is_some(), "a CPU affinity"),
        (linux(|linux| linux.seccomp().is_some()), "a seccomp profile"),
        (linux(|linux| linux.intel_rdt().is_some()), "Intel RDT"),
        (linux(|linux| linux.personality().is_some()), "a personality"),
        (linux(|linux| linux.memory_policy().is_some()), "a memory policy"),
        (
            linux(|linux| linux.mount_label().as_ref().is_some_and(|l| !l.is_empty())),
            "a mount label",
        ),
        (
            linux(|linux| linux.uid_mappings().as_ref().is_some_and(|l| !l.is_empty())),
            "an ID mapping",
        ),
        (
            linux(|linux| linux.net_devices().as_ref().is_some_and(|d| !d.is_empty())),
            "a network device",
        ),
    ];
    match unsupported.into_iter().find(|(asked, _)| *asked) {
        Some((_, feature)) => Err(ContainerError::Unsupported(feature.to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use husk_protocol::Rootfs;

    fn check(id: &str, spec: &str) -> Result<(), String> {
        let request = CreateContainer {
            id: id.to_owned(),
            rootfs: Rootfs { image_disk: "image".into(), writable_disk: "writable".into() },
            user: String::new(),
            spec: serde_json::from_str(spec).unwrap(),
            files: Vec::new(),
            stdin: false,
        };
        validate(&request).map(drop).map_err(|error| error.to_string())
    }

    const NAMESPACES: &str = r#""namespaces":[{"type":"pid"},{"type":"mount"}]"#;

    fn spec(process: &str, linux: &str) -> String {
        format!(
            r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"cwd":"/"{process}}},
               "linux":{{{NAMESPACES}{linux}}}}}"#
        )
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(check("a_B.9-", &spec(r#","args":["sh"]"#, "")), Ok(()));
    }

    #[test]
    fn ids_that_are_paths_are_refused() {
        for id in ["", ".", "..", "a/b", "a b", "é", &"x".repeat(65)] {
            let error = check(id, &spec(r#","args":["sh"]"#, "")).unwrap_err();
            assert!(error.starts_with("invalid container ID"), "{id}: {error}");
        }
    }

    #[test]
    fn a_process_needs_arguments_without_nul() {
        assert_eq!(check("c", &spec("", "")).unwrap_err(), "invalid process: it has no arguments");
        let error = check("c", &spec(r#","args":["a\u0000b"]"#, "")).unwrap_err();
        assert!(error.contains("NUL"));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let seccomp = r#","seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}"#;
        assert_eq!(
            check("c", &spec(r#","args":["sh"]"#, seccomp)).unwrap_err(),
            "a seccomp profile is not supported"
        );
        assert_eq!(
            check("c", &spec(r#","args":["sh"],"apparmorProfile":"x""#, "")).unwrap_err(),
            "an AppArmor profile is not supported"
        );
    }
}
