//! Who the jailed process is, and what it may do: nobody, and nothing.

use std::fmt::Write as _;
use std::io;

use husk_vmm_config::{JAIL_GID, JAIL_UID};
use rustix::process::{DumpableBehavior, Gid, Pid, Uid, getegid, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, remove_capability_from_bounding_set,
    set_capabilities, set_capabilities_secure_bits, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// A user and a group of the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    uid: Uid,
    gid: Gid,
    /// Whether root gives itself up for them; else they are our own.
    assumed: bool,
}

/// The bits that keep user IDs and capabilities apart: a change of one does not change the others.
const SECURE: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE);

/// The bits that keep those, and [`CapabilitiesSecureBits::KEEP_CAPS`], as they are.
const LOCKED: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT_LOCKED
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

impl Identity {
    /// Nobody, if we are root; else ourselves: nothing else may be mapped.
    pub(super) fn choose() -> Self {
        if geteuid().is_root() {
            Self { uid: Uid::from_raw(JAIL_UID), gid: Gid::from_raw(JAIL_GID), assumed: true }
        } else {
            Self { uid: geteuid(), gid: getegid(), assumed: false }
        }
    }

    /// Whether we are root, and will not be.
    pub(super) fn is_assumed(self) -> bool {
        self.assumed
    }

    /// Makes them the only IDs of the user namespace of `pid`, under the same numbers.
    pub(super) fn map(self, pid: Pid) -> io::Result<()> {
        let write = |file: &str, text: String| std::fs::write(format!("/proc/{pid}/{file}"), text);
        let line = |id: u32| {
            let mut line = String::new();
            writeln!(line, "{id} {id} 1").map(|()| line).map_err(io::Error::other)
        };
        if !self.assumed {
            // Who maps its own group may not leave groups, which may deny as well as allow.
            write("setgroups", "deny".into())?;
        }
        write("uid_map", line(self.uid.as_raw())?)?;
        write("gid_map", line(self.gid.as_raw())?)
    }

    /// Becomes them, and keeps the capabilities for now.
    pub(super) fn assume(self) -> io::Result<()> {
        if !self.assumed {
            return Ok(());
        }
        set_capabilities_secure_bits(SECURE)?;
        set_thread_groups(&[])?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        Ok(set_thread_res_uid(self.uid, self.uid, self.uid)?)
    }
}

/// Gives up every capability in every set, for good, and the wish to get any by running a program;
/// other processes of the same user may not look into this one.
pub(super) fn drop_privileges() -> io::Result<()> {
    if is_privileged()? {
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Behind the last one.
                Err(rustix::io::Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
        set_capabilities_secure_bits(SECURE | LOCKED)?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether there is a capability to give up that takes one.
fn is_privileged() -> io::Result<bool> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(sets.effective.contains(CapabilitySet::SETPCAP))
}
