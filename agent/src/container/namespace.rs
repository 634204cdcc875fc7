//! Namespaces of a container (namespaces(7)).

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use rustix::system::{setdomainname, sethostname};

use super::error::{Attempt, ContainerError};
use crate::sys::link::loopback_up;
use crate::sys::process::unshare;

/// Which namespaces of its own a container has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Namespaces {
    flags: i32,
}

impl Namespaces {
    /// Those that a spec lists. PID and mount namespaces are a must: they hide the agent.
    ///
    /// # Errors
    /// [`ContainerError`] for one that is not supported, or a must that is missing.
    pub fn new(list: &[LinuxNamespace]) -> Result<Self, ContainerError> {
        let mut flags = 0;
        for namespace in list {
            if namespace.path().is_some() {
                return Err(ContainerError::Unsupported(format!(
                    "joining an existing {} namespace",
                    namespace.typ()
                )));
            }
            flags |= match namespace.typ() {
                LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
                LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
                LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
                LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
                LinuxNamespaceType::Network => libc::CLONE_NEWNET,
                LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
                kind @ (LinuxNamespaceType::User | LinuxNamespaceType::Time) => {
                    return Err(ContainerError::Unsupported(format!("a {kind} namespace")));
                }
            };
        }
        for (flag, name) in [(libc::CLONE_NEWPID, "PID"), (libc::CLONE_NEWNS, "mount")] {
            if flags & flag == 0 {
                return Err(ContainerError::Unsupported(format!(
                    "a container without a {name} namespace"
                )));
            }
        }
        Ok(Self { flags })
    }

    /// Those into which the container's first process is cloned.
    pub fn clone_flags(self) -> u64 {
        // The cgroup namespace comes later: its root is the cgroup of who makes it.
        u64::from((self.flags & !libc::CLONE_NEWCGROUP).cast_unsigned())
    }

    /// Completes them from inside: cgroup namespace, names, loopback link.
    ///
    /// # Errors
    /// [`ContainerError`]
    pub fn enter(
        self,
        hostname: Option<&str>,
        domainname: Option<&str>,
    ) -> Result<(), ContainerError> {
        if self.has(libc::CLONE_NEWCGROUP) {
            unshare(libc::CLONE_NEWCGROUP).attempt(|| "make a cgroup namespace".to_owned())?;
        }
        if self.has(libc::CLONE_NEWNET) {
            loopback_up().attempt(|| "bring the loopback link up".to_owned())?;
        }
        if let Some(name) = hostname.filter(|name| !name.is_empty()) {
            self.needs_uts("hostname")?;
            sethostname(name.as_bytes()).attempt(|| format!("set the hostname {name:?}"))?;
        }
        if let Some(name) = domainname.filter(|name| !name.is_empty()) {
            self.needs_uts("domainname")?;
            setdomainname(name.as_bytes()).attempt(|| format!("set the domainname {name:?}"))?;
        }
        Ok(())
    }

    fn needs_uts(self, field: &str) -> Result<(), ContainerError> {
        if self.has(libc::CLONE_NEWUTS) {
            Ok(())
        } else {
            Err(ContainerError::invalid(field, "it needs a UTS namespace"))
        }
    }

    fn has(self, flag: i32) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Namespaces, String> {
        let list: Vec<LinuxNamespace> = serde_json::from_str(json).unwrap();
        Namespaces::new(&list).map_err(|error| error.to_string())
    }

    #[test]
    fn the_cgroup_namespace_is_not_cloned_into() {
        let all = of(r#"[{"type":"pid"},{"type":"mount"},{"type":"cgroup"}]"#).unwrap();
        assert!(all.has(libc::CLONE_NEWCGROUP));
        let expected = u64::from((libc::CLONE_NEWPID | libc::CLONE_NEWNS).cast_unsigned());
        assert_eq!(all.clone_flags(), expected);
    }

    #[test]
    fn what_would_show_the_agent_is_refused() {
        let error = of(r#"[{"type":"mount"}]"#).unwrap_err();
        assert_eq!(error, "a container without a PID namespace is not supported");
        let error = of(r#"[{"type":"pid","path":"/proc/1/ns/pid"}]"#).unwrap_err();
        assert_eq!(error, "joining an existing pid namespace is not supported");
    }

    #[test]
    fn user_and_time_namespaces_are_refused() {
        for kind in ["user", "time"] {
            let error = of(&format!(r#"[{{"type":"{kind}"}}]"#)).unwrap_err();
            assert_eq!(error, format!("a {kind} namespace is not supported"));
        }
    }
}
