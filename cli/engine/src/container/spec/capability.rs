//! Linux capabilities of the process: Docker's default set, and what was added and dropped.

use std::str::FromStr;

use husk_api::models::HostConfig;
use husk_api::{ApiError, ErrorCode};
use oci_spec::runtime::{Capabilities, Capability};

/// Docker's default set.
pub(super) const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// Every capability that Linux has.
const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

/// The capabilities that `host` asks for.
///
/// # Errors
/// `InvalidArgument` for a name that is no capability.
pub(super) fn wanted(host: &HostConfig) -> Result<Capabilities, ApiError> {
    let added = names(host.cap_add.as_deref())?;
    let dropped = names(host.cap_drop.as_deref())?;
    if host.privileged == Some(true) {
        return Ok(ALL.into_iter().collect());
    }
    let mut set: Capabilities = match (&added, &dropped) {
        (Named::All, _) => ALL.into_iter().collect(),
        (Named::Some(_), Named::All) => Capabilities::default(),
        (Named::Some(_), Named::Some(_)) => DEFAULT.into_iter().collect(),
    };
    if let Named::Some(dropped) = dropped {
        set.retain(|capability| !dropped.contains(capability));
    }
    if let Named::Some(added) = added {
        set.extend(added);
    }
    Ok(set)
}

enum Named {
    All,
    Some(Vec<Capability>),
}

fn names(list: Option<&[String]>) -> Result<Named, ApiError> {
    let mut named = Vec::new();
    for name in list.unwrap_or_default() {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" || upper == "CAP_ALL" {
            return Ok(Named::All);
        }
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let capability = Capability::from_str(short).map_err(|_| {
            ApiError::new(ErrorCode::InvalidArgument, format!("invalid capability: {name}"))
        })?;
        named.push(capability);
    }
    Ok(Named::Some(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Capabilities {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        wanted(&HostConfig { cap_add: list(add), cap_drop: list(drop), ..HostConfig::default() })
            .unwrap()
    }

    #[test]
    fn default_set_is_dockers_fourteen() {
        assert_eq!(set(&[], &[]), DEFAULT.into_iter().collect());
        assert_eq!(DEFAULT.len(), 14);
    }

    #[test]
    fn names_are_added_and_dropped_with_and_without_prefix() {
        let caps = set(&["SYS_ADMIN", "cap_net_admin"], &["CAP_CHOWN"]);
        assert!(caps.contains(&Capability::SysAdmin) && caps.contains(&Capability::NetAdmin));
        assert!(!caps.contains(&Capability::Chown));
        assert_eq!(caps.len(), 15);
    }

    #[test]
    fn all_stands_for_all_of_them() {
        assert_eq!(set(&["ALL"], &[]).len(), ALL.len());
        assert_eq!(set(&[], &["ALL"]).len(), 0);
        assert_eq!(set(&["KILL"], &["ALL"]), [Capability::Kill].into_iter().collect());
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]).len(), ALL.len() - 1);
        let privileged = HostConfig { privileged: Some(true), ..HostConfig::default() };
        assert_eq!(wanted(&privileged).unwrap().len(), ALL.len());
    }
}
