//! `run` flags that end up in the Engine API's `HostConfig`.

use std::collections::HashMap;

use husk_api::models::{HostConfig, ResourcesUlimits};

use super::environment::{self, EnvironmentError};
use super::run::{Accelerator, LimitArgs};

/// The annotation that carries `--accel`; Docker's API has no field for it.
pub(crate) const ACCELERATOR_ANNOTATION: &str = "husk.accel";

/// A flag's value that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostConfigError {
    /// Not `name=soft[:hard]`.
    #[error("invalid argument \"{0}\" for \"--ulimit\" flag: use name=soft[:hard]")]
    Ulimit(String),
    /// A network that is not there yet.
    #[error("network {0:?} is not supported yet: use --network none or leave it out")]
    Network(String),
    /// Variables.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
}

/// The host configuration of a container.
pub(super) fn of(
    limits: &LimitArgs,
    auto_remove: bool,
    annotations: &[String],
) -> Result<HostConfig, HostConfigError> {
    let ulimits: Result<Vec<_>, _> = limits.ulimit.iter().map(|text| ulimit(text)).collect();
    let mut annotations = environment::pairs(annotations);
    if let Some(accelerator) = limits.accel {
        annotations.insert(ACCELERATOR_ANNOTATION.to_owned(), name(accelerator).to_owned());
    }
    Ok(HostConfig {
        auto_remove: Some(auto_remove),
        memory: limits.memory,
        nano_cpus: limits.cpus,
        pids_limit: limits.pids_limit,
        readonly_rootfs: Some(limits.read_only),
        privileged: Some(limits.privileged),
        init: limits.init.then_some(true),
        cap_add: some(&limits.cap_add),
        cap_drop: some(&limits.cap_drop),
        tmpfs: tmpfs(&limits.tmpfs),
        shm_size: limits.shm_size,
        ulimits: Some(ulimits?).filter(|ulimits| !ulimits.is_empty()),
        network_mode: network(limits.network.as_deref())?,
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        ..HostConfig::default()
    })
}

fn name(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Auto => "auto",
        Accelerator::Kvm => "kvm",
        Accelerator::Software => "software",
    }
}

fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// `DIR[:OPTIONS]`.
fn tmpfs(texts: &[String]) -> Option<HashMap<String, String>> {
    let mounts: HashMap<_, _> = texts
        .iter()
        .map(|text| text.split_once(':').unwrap_or((text, "")))
        .map(|(directory, options)| (directory.to_owned(), options.to_owned()))
        .collect();
    (!mounts.is_empty()).then_some(mounts)
}

fn network(name: Option<&str>) -> Result<Option<String>, HostConfigError> {
    match name {
        None => Ok(None),
        Some(known @ ("none" | "default" | "bridge")) => Ok(Some(known.to_owned())),
        Some(other) => Err(HostConfigError::Network(other.to_owned())),
    }
}

/// `name=soft[:hard]`; -1 means unlimited.
fn ulimit(text: &str) -> Result<ResourcesUlimits, HostConfigError> {
    let parse = || {
        let (name, limits) = text.split_once('=')?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard): (i64, i64) = (soft.parse().ok()?, hard.parse().ok()?);
        let ordered = hard == -1 || (soft != -1 && soft <= hard);
        (!name.is_empty() && ordered && soft >= -1 && hard >= -1).then(|| ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(soft),
            hard: Some(hard),
        })
    };
    parse().ok_or_else(|| HostConfigError::Ulimit(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulimit_has_one_or_two_numbers() {
        let limit = ulimit("nofile=10:20").unwrap();
        assert_eq!((limit.soft, limit.hard), (Some(10), Some(20)));
        assert_eq!(ulimit("core=0").unwrap().hard, Some(0));
        assert_eq!(ulimit("memlock=-1").unwrap().soft, Some(-1));
        for bad in ["", "x", "=1", "nofile=", "nofile=3:2", "nofile=-1:5", "nofile=a"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_network_is_refused() {
        assert_eq!(network(Some("none")).unwrap().as_deref(), Some("none"));
        assert!(network(Some("mine")).is_err());
    }

    #[test]
    fn a_tmpfs_may_have_options() {
        let mounts = tmpfs(&["/a".into(), "/b:size=1m".into()]).unwrap();
        assert_eq!((mounts["/a"].as_str(), mounts["/b"].as_str()), ("", "size=1m"));
    }
}
