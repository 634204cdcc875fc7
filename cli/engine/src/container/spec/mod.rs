//! A container's OCI runtime spec, as Docker makes it.
//!
//! Follows the OCI runtime specification 1.2, `config.md` and `config-linux.md`. The user and the
//! files the host provides travel beside it: both need the image's root file system to resolve.

mod capability;
mod files;
mod mounts;
mod resources;

use husk_api::models::{ContainerCreateBody, HostConfig};
use husk_api::{ApiError, ErrorCode};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    BoxBuilder, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder, LinuxNamespaceType,
    Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
};

pub(crate) use files::provided as provided_files;

use crate::container::definition::key;
use crate::store::Definition;

/// Where programs are looked for unless the image says otherwise.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Refuses what no spec can be made of.
///
/// # Errors
/// `InvalidArgument`, naming the field.
pub(crate) fn check(body: &ContainerCreateBody, host: &HostConfig) -> Result<(), ApiError> {
    capability::wanted(host)?;
    resources::process(host)?;
    mounts::check(host)?;
    files::check(host)?;
    let adjustment = host.oom_score_adj.unwrap_or(0);
    if !(-1000..=1000).contains(&adjustment) {
        return Err(ApiError::new(
            ErrorCode::InvalidArgument,
            format!("Invalid value {adjustment}, range for oom score adj is [-1000, 1000]"),
        ));
    }
    for name in host.sysctls.iter().flatten().map(|(name, _)| name) {
        let sane = !name.is_empty()
            && !name.contains("..")
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
        if !sane {
            return Err(ApiError::new(
                ErrorCode::InvalidArgument,
                format!("sysctl {name:?} is not a name of a kernel parameter"),
            ));
        }
    }
    if body.domainname.as_ref().is_some_and(|name| name.len() > 64 || name.contains('\0')) {
        return Err(ApiError::new(ErrorCode::InvalidArgument, "Domainname is over 64 bytes long"));
    }
    Ok(())
}

/// Makes the spec.
///
/// # Errors
/// `InvalidArgument` for a setting that [`check`] would have refused.
pub(crate) fn build(definition: &Definition) -> Result<Spec, ApiError> {
    let host = &definition.host_config;
    let process = process(definition)?;
    let namespaces = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Cgroup,
    ]
    .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build().expect("it has a type"));
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces.to_vec())
        .resources(resources::cgroup(host))
        .masked_paths(mounts::masked(host))
        .readonly_paths(mounts::read_only(host));
    if let Some(sysctls) = host.sysctls.clone().filter(|sysctls| !sysctls.is_empty()) {
        linux = linux.sysctl(sysctls);
    }
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(host.readonly_rootfs.unwrap_or(false))
        .build()
        .map_err(malformed)?;
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .process(process)
        .mounts(mounts::wanted(host))
        .hostname(definition.config.hostname.clone().unwrap_or_default())
        .linux(linux.build().map_err(malformed)?)
        .build()
        .map_err(malformed)?;
    spec.set_domainname(definition.config.domainname.clone().filter(|name| !name.is_empty()));
    Ok(spec)
}

fn process(definition: &Definition) -> Result<Process, ApiError> {
    let (config, host) = (&definition.config, &definition.host_config);
    let capabilities = capability::wanted(host)?;
    let directory = config.working_dir.clone().filter(|path| !path.is_empty());
    // Inheritable and ambient stay empty, as in Docker: a program run by another user than root
    // has none of them.
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities.clone())
        .effective(capabilities.clone())
        .permitted(capabilities)
        .inheritable(oci_spec::runtime::Capabilities::default())
        .ambient(oci_spec::runtime::Capabilities::default())
        .build()
        .map_err(malformed)?;
    let mut process = ProcessBuilder::default()
        .terminal(definition.tty())
        .args(definition.args())
        .env(environment(definition))
        .cwd(directory.unwrap_or_else(|| "/".to_owned()))
        .capabilities(capabilities)
        .rlimits(resources::process(host)?)
        .no_new_privileges(no_new_privileges(host));
    if let Some(adjustment) = host.oom_score_adj.and_then(|n| i32::try_from(n).ok()) {
        process = process.oom_score_adj(adjustment);
    }
    if let (true, Some([rows, columns])) = (definition.tty(), host.console_size.as_deref())
        && *rows > 0
        && *columns > 0
    {
        let size = BoxBuilder::default()
            .height(*rows as u64)
            .width(*columns as u64)
            .build()
            .map_err(malformed)?;
        process = process.console_size(size);
    }
    process.build().map_err(malformed)
}

/// The variables of the process: defaults, then what image and client set, in place; a name
/// without `=` takes the variable away. `HOME` is the agent's, which knows the user's entry.
fn environment(definition: &Definition) -> Vec<String> {
    let hostname = definition.config.hostname.clone().unwrap_or_default();
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if definition.tty() {
        env.push("TERM=xterm".to_owned());
    }
    for variable in definition.config.env.iter().flatten() {
        let place = env.iter().position(|other| key(other) == key(variable));
        match (place, variable.contains('=')) {
            (Some(place), true) => env[place].clone_from(variable),
            (None, true) => env.push(variable.clone()),
            (Some(place), false) => drop(env.remove(place)),
            (None, false) => {}
        }
    }
    env
}

fn no_new_privileges(host: &HostConfig) -> bool {
    host.security_opt.iter().flatten().any(|option| {
        matches!(
            option.as_str(),
            "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true"
        )
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for map_err")]
fn malformed(error: OciSpecError) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, format!("the container's spec is malformed: {error}"))
}

#[cfg(test)]
mod tests;
