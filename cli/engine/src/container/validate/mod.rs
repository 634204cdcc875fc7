//! What a create request may ask for: all else is refused by name, so that nothing is silently
//! ignored. What a stock `docker` client always sends (its defaults) passes.

use husk_api::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigIsolationEnum,
    RestartPolicyNameEnum,
};
use husk_api::{ApiError, ErrorCode};

use crate::limits::MEMORY_LIMIT_MIN;
use crate::sandbox::AcceleratorChoice;

/// Checks a request; `host_cpus` is the number of CPUs of this host.
///
/// # Errors
/// `InvalidArgument` or `Unsupported`, naming the field and what to do.
pub(crate) fn validate(body: &ContainerCreateBody, host_cpus: usize) -> Result<(), ApiError> {
    let default = HostConfig::default();
    let host = body.host_config.as_ref().unwrap_or(&default);
    process(body)?;
    networks(body, host)?;
    sharing(host)?;
    namespaces(host)?;
    memory(host)?;
    cpus(host, host_cpus)?;
    devices(host)?;
    lifecycle(host)?;
    security(host)?;
    // Whatever the default is, what is asked for must be known.
    AcceleratorChoice::from_annotations(host.annotations.as_ref(), AcceleratorChoice::Auto)?;
    crate::container::spec::check(body, host)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, message)
}

fn unsupported(field: &str, remedy: &str) -> ApiError {
    ApiError::new(ErrorCode::Unsupported, format!("{field} is not supported yet: {remedy}"))
}

/// Refuses `field` unless it is absent or holds one of `accepted`.
fn one_of(
    field: &str,
    value: Option<&str>,
    accepted: &[&str],
    remedy: &str,
) -> Result<(), ApiError> {
    match value {
        None | Some("") => Ok(()),
        Some(value) if accepted.contains(&value) => Ok(()),
        Some(value) => Err(unsupported(&format!("{field} {value:?}"), remedy)),
    }
}

fn none_of<T>(field: &str, values: Option<&[T]>, remedy: &str) -> Result<(), ApiError> {
    if values.is_none_or(<[T]>::is_empty) { Ok(()) } else { Err(unsupported(field, remedy)) }
}

fn not_set(field: &str, is_set: bool, remedy: &str) -> Result<(), ApiError> {
    if is_set { Err(unsupported(field, remedy)) } else { Ok(()) }
}

fn process(body: &ContainerCreateBody) -> Result<(), ApiError> {
    if let Some(directory) = body.working_dir.as_deref().filter(|directory| !directory.is_empty())
        && !directory.starts_with('/')
    {
        return Err(invalid(format!(
            "the working directory '{directory}' is invalid, it needs to be an absolute path"
        )));
    }
    for variable in body.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
            return Err(invalid(format!("invalid environment variable: {variable:?}")));
        }
    }
    let has_nul =
        |part: &Option<Vec<String>>| part.iter().flatten().any(|word| word.contains('\0'));
    if has_nul(&body.cmd) || has_nul(&body.entrypoint) {
        return Err(invalid("Cmd and Entrypoint must not contain NUL characters"));
    }
    if let Some(hostname) = body.hostname.as_deref().filter(|hostname| !hostname.is_empty())
        && (hostname.len() > 63 || !hostname.bytes().all(|b| b.is_ascii_graphic() && b != b'/'))
    {
        return Err(invalid(format!("invalid hostname format: {hostname}")));
    }
    if let Some(check) = &body.healthcheck {
        let test = check.test.as_deref().unwrap_or_default();
        let is_none = test.is_empty() || test == ["NONE".to_owned()];
        not_set("Healthcheck", !is_none, "leave out --health-* flags")?;
    }
    if let Some(signal) = body.stop_signal.as_deref().filter(|signal| !signal.is_empty())
        && husk_api::signal::parse(signal).is_err()
    {
        return Err(invalid(format!("invalid signal: {signal}")));
    }
    Ok(())
}

const NO_NETWORKS: &str = "networks come in a later version";

fn networks(body: &ContainerCreateBody, host: &HostConfig) -> Result<(), ApiError> {
    const BUILT_IN: &[&str] = &["default", "bridge", "none"];
    one_of("NetworkMode", host.network_mode.as_deref(), BUILT_IN, NO_NETWORKS)?;
    let endpoints =
        body.networking_config.as_ref().and_then(|config| config.endpoints_config.as_ref());
    for (network, endpoint) in endpoints.into_iter().flatten() {
        one_of("network", Some(network), BUILT_IN, NO_NETWORKS)?;
        let asks = endpoint.ipam_config.is_some()
            || endpoint.links.as_ref().is_some_and(|links| !links.is_empty())
            || endpoint.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty())
            || endpoint.mac_address.as_ref().is_some_and(|address| !address.is_empty());
        not_set(&format!("EndpointsConfig of network {network:?}"), asks, NO_NETWORKS)?;
    }
    let bound = host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    not_set("PortBindings (--publish)", bound, NO_NETWORKS)?;
    not_set("PublishAllPorts", host.publish_all_ports == Some(true), NO_NETWORKS)?;
    none_of("Links", host.links.as_deref(), NO_NETWORKS)
}

fn sharing(host: &HostConfig) -> Result<(), ApiError> {
    const NO_SHARING: &str = "bind mounts and volumes come in a later version; \
                              build the files into the image or use --tmpfs";
    none_of("Binds (--volume)", host.binds.as_deref(), NO_SHARING)?;
    none_of("Mounts (--mount)", host.mounts.as_deref(), NO_SHARING)?;
    none_of("VolumesFrom", host.volumes_from.as_deref(), NO_SHARING)?;
    one_of("VolumeDriver", host.volume_driver.as_deref(), &["local"], NO_SHARING)?;
    let options = host.storage_opt.as_ref().is_some_and(|options| !options.is_empty());
    not_set("StorageOpt", options, "the writable layer grows up to 64 GiB by itself")
}

fn namespaces(host: &HostConfig) -> Result<(), ApiError> {
    const OWN: &str = "every container has a microVM, and so namespaces, of its own";
    one_of("IpcMode", host.ipc_mode.as_deref(), &["private", "shareable"], OWN)?;
    one_of("PidMode", host.pid_mode.as_deref(), &["private"], OWN)?;
    one_of("UTSMode", host.uts_mode.as_deref(), &["private"], OWN)?;
    one_of("UsernsMode", host.userns_mode.as_deref(), &["private"], OWN)?;
    one_of("Cgroup", host.cgroup.as_deref(), &[], OWN)?;
    one_of("CgroupParent", host.cgroup_parent.as_deref(), &[], OWN)?;
    let host_cgroup = host.cgroupns_mode == Some(HostConfigCgroupnsModeEnum::HOST);
    not_set("CgroupnsMode \"host\"", host_cgroup, OWN)
}

fn memory(host: &HostConfig) -> Result<(), ApiError> {
    const NO_SWAP: &str = "a microVM has no swap, so leave it out or set it to --memory";
    let memory = host.memory.unwrap_or(0);
    if memory < 0 || (memory > 0 && memory < MEMORY_LIMIT_MIN) {
        return Err(invalid("Minimum memory limit allowed is 6MB"));
    }
    let swap = host.memory_swap.unwrap_or(0);
    if swap > 0 && swap < memory {
        return Err(invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    // Docker clients set twice the memory by default.
    let is_default = swap <= 0 || swap == memory || swap == memory.saturating_mul(2);
    not_set("MemorySwap", !is_default, NO_SWAP)?;
    let swappiness = host.memory_swappiness.unwrap_or(-1);
    not_set("MemorySwappiness", swappiness != -1, NO_SWAP)?;
    let reserved = host.memory_reservation.unwrap_or(0) != 0;
    not_set("MemoryReservation", reserved, "set --memory instead")?;
    let disabled = host.oom_kill_disable == Some(true);
    not_set("OomKillDisable", disabled, "give the container more --memory")
}

fn cpus(host: &HostConfig, host_cpus: usize) -> Result<(), ApiError> {
    let nano_cpus = host.nano_cpus.unwrap_or(0);
    let period = host.cpu_period.unwrap_or(0);
    let quota = host.cpu_quota.unwrap_or(0);
    if nano_cpus > 0 && (period > 0 || quota > 0) {
        let other = if period > 0 { "Period" } else { "Quota" };
        return Err(invalid(format!(
            "Conflicting options: Nano CPUs and CPU {other} cannot both be set."
        )));
    }
    let most = i64::try_from(host_cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    if nano_cpus < 0 || nano_cpus > most {
        return Err(invalid(format!(
            "range of CPUs is from 0.01 to {host_cpus}.00, as there are only {host_cpus} CPUs available"
        )));
    }
    if period != 0 && !(1_000..=1_000_000).contains(&period) {
        return Err(invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if quota > 0 && quota < 1_000 {
        return Err(invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if host.cpu_shares.unwrap_or(0) < 0 {
        return Err(invalid("CpuShares must not be negative"));
    }
    const OWN_CPUS: &str = "a microVM has virtual CPUs of its own; use --cpus";
    one_of("CpusetCpus", host.cpuset_cpus.as_deref(), &[], OWN_CPUS)?;
    one_of("CpusetMems", host.cpuset_mems.as_deref(), &[], OWN_CPUS)?;
    let realtime =
        host.cpu_realtime_period.unwrap_or(0) != 0 || host.cpu_realtime_runtime.unwrap_or(0) != 0;
    not_set("CpuRealtimePeriod and CpuRealtimeRuntime", realtime, OWN_CPUS)?;
    let windows = host.cpu_count.unwrap_or(0) != 0 || host.cpu_percent.unwrap_or(0) != 0;
    not_set("CpuCount and CpuPercent (Windows only)", windows, OWN_CPUS)
}

fn devices(host: &HostConfig) -> Result<(), ApiError> {
    const NO_DEVICES: &str = "host devices do not reach into a microVM";
    const NO_IO: &str = "limits of block I/O come in a later version";
    none_of("Devices", host.devices.as_deref(), NO_DEVICES)?;
    none_of("DeviceCgroupRules", host.device_cgroup_rules.as_deref(), NO_DEVICES)?;
    none_of("DeviceRequests", host.device_requests.as_deref(), NO_DEVICES)?;
    not_set("BlkioWeight", host.blkio_weight.unwrap_or(0) != 0, NO_IO)?;
    none_of("BlkioWeightDevice", host.blkio_weight_device.as_deref(), NO_IO)?;
    none_of("BlkioDeviceReadBps", host.blkio_device_read_bps.as_deref(), NO_IO)?;
    none_of("BlkioDeviceWriteBps", host.blkio_device_write_bps.as_deref(), NO_IO)?;
    none_of("BlkioDeviceReadIOps", host.blkio_device_read_iops.as_deref(), NO_IO)?;
    none_of("BlkioDeviceWriteIOps", host.blkio_device_write_iops.as_deref(), NO_IO)?;
    let windows =
        host.io_maximum_iops.unwrap_or(0) != 0 || host.io_maximum_bandwidth.unwrap_or(0) != 0;
    not_set("IOMaximumIOps and IOMaximumBandwidth (Windows only)", windows, NO_IO)
}

fn lifecycle(host: &HostConfig) -> Result<(), ApiError> {
    use RestartPolicyNameEnum::{EMPTY, NO};
    let policy = host.restart_policy.as_ref();
    let restarts = policy.and_then(|policy| policy.name).is_some_and(|n| !matches!(n, EMPTY | NO));
    not_set("RestartPolicy", restarts, "only \"no\" is; start the container again yourself")?;
    if policy.is_some_and(|policy| policy.maximum_retry_count.unwrap_or(0) != 0) {
        return Err(invalid(
            "maximum retry count can only be used with restart policy 'on-failure'",
        ));
    }
    not_set("Init (--init)", host.init == Some(true), "run an init program of the image")?;
    one_of("Runtime", host.runtime.as_deref(), &["husk"], "leave out --runtime")?;
    let isolation = host.isolation;
    let other = isolation.is_some_and(|isolation| {
        !matches!(isolation, HostConfigIsolationEnum::DEFAULT | HostConfigIsolationEnum::EMPTY)
    });
    not_set("Isolation", other, "leave it out: every container has a microVM of its own")?;
    let log = host.log_config.as_ref();
    let driver = log.and_then(|log| log.typ.as_deref());
    const OWN_LOG: &str = "husk keeps logs itself; leave out --log-driver and --log-opt";
    one_of("LogConfig.Type", driver, &["json-file"], OWN_LOG)?;
    let options = log.and_then(|log| log.config.as_ref()).is_some_and(|config| !config.is_empty());
    not_set("LogConfig.Config", options, OWN_LOG)
}

fn security(host: &HostConfig) -> Result<(), ApiError> {
    const ACCEPTED: &[&str] = &[
        "no-new-privileges",
        "no-new-privileges:true",
        "no-new-privileges:false",
        "no-new-privileges=true",
        "no-new-privileges=false",
        "seccomp=unconfined",
        "seccomp:unconfined",
        "apparmor=unconfined",
        "apparmor:unconfined",
        "label=disable",
        "label:disable",
    ];
    const OWN_KERNEL: &str = "the container has a kernel of its own as its boundary";
    for option in host.security_opt.iter().flatten() {
        one_of("SecurityOpt", Some(option), ACCEPTED, OWN_KERNEL)?;
    }
    none_of("GroupAdd", host.group_add.as_deref(), "name the group in --user")
}

#[cfg(test)]
mod tests;
