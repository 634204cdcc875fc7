//! Giving up privileges: capabilities, groups and IDs (capabilities(7), credentials(7)).

use std::io;

use oci_spec::runtime::{Capabilities, LinuxCapabilities};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::error::{Attempt, ContainerError};
use super::user::Identity;

/// The five capability sets of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CapabilityPlan {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl CapabilityPlan {
    /// The sets of a spec; without any, a process has none (runtime-spec `config.md`).
    pub fn new(capabilities: Option<&LinuxCapabilities>) -> Self {
        let of = |pick: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            capabilities.and_then(|sets| pick(sets).as_ref()).map_or(CapabilitySet::empty(), set)
        };
        Self {
            bounding: of(LinuxCapabilities::bounding),
            effective: of(LinuxCapabilities::effective),
            permitted: of(LinuxCapabilities::permitted),
            inheritable: of(LinuxCapabilities::inheritable),
            ambient: of(LinuxCapabilities::ambient),
        }
    }
}

/// Becomes `identity` with the capabilities of `plan`. There is no way back.
///
/// # Errors
/// [`ContainerError`]
pub fn assume(
    identity: &Identity,
    plan: &CapabilityPlan,
    no_new_privileges: bool,
) -> Result<(), ContainerError> {
    let known = drop_bounding(plan.bounding).attempt(|| "drop bounding capabilities".to_owned())?;
    set_keep_capabilities(true).attempt(|| "keep capabilities".to_owned())?;
    set_ids(identity)
        .attempt(|| format!("become user {} and group {}", identity.uid, identity.gid))?;
    set_keep_capabilities(false).attempt(|| "keep capabilities".to_owned())?;
    let sets = CapabilitySets {
        effective: plan.effective & known,
        permitted: plan.permitted & known,
        inheritable: plan.inheritable & known,
    };
    set_capabilities(None, sets).attempt(|| "set capabilities".to_owned())?;
    clear_ambient_capability_set().attempt(|| "clear ambient capabilities".to_owned())?;
    for capability in (plan.ambient & known).iter() {
        configure_capability_in_ambient_set(capability, true)
            .attempt(|| format!("set the ambient capability {capability:?}"))?;
    }
    if no_new_privileges {
        set_no_new_privs(true).attempt(|| "set no_new_privs".to_owned())?;
    }
    Ok(())
}

fn set_ids(identity: &Identity) -> io::Result<()> {
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups)?;
    let gid = Some(Gid::from_raw(identity.gid));
    set_thread_res_gid(gid, gid, gid)?;
    let uid = Some(Uid::from_raw(identity.uid));
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// Drops all but `kept` from the bounding set. Returns all capabilities that the kernel knows.
fn drop_bounding(kept: CapabilitySet) -> io::Result<CapabilitySet> {
    let mut known = CapabilitySet::empty();
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // The first number that the kernel does not know ends the list.
        let Ok(present) = capability_is_in_bounding_set(capability) else { break };
        known |= capability;
        if present && !kept.contains(capability) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(known)
}

fn set(capabilities: &Capabilities) -> CapabilitySet {
    capabilities
        .iter()
        .map(|capability| {
            CapabilitySet::from_name(&capability.to_string())
                .expect("both crates name capabilities as the kernel does")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_spec_become_bits() {
        let sets: LinuxCapabilities = serde_json::from_str(
            r#"{"bounding":["CAP_CHOWN","CAP_CHECKPOINT_RESTORE"],"ambient":["CAP_NET_RAW"]}"#,
        )
        .unwrap();
        let plan = CapabilityPlan::new(Some(&sets));
        assert_eq!(plan.bounding, CapabilitySet::CHOWN | CapabilitySet::CHECKPOINT_RESTORE);
        assert_eq!(plan.ambient, CapabilitySet::NET_RAW);
        assert_eq!(plan.effective, CapabilitySet::empty());
    }

    #[test]
    fn every_capability_of_the_kernel_has_a_name_in_the_spec() {
        for (name, bit) in CapabilitySet::all().iter_names() {
            let json = format!(r#"{{"bounding":["CAP_{name}"]}}"#);
            let sets: LinuxCapabilities = serde_json::from_str(&json).unwrap();
            assert_eq!(CapabilityPlan::new(Some(&sets)).bounding, bit);
        }
    }

    #[test]
    fn without_capabilities_there_are_none() {
        assert_eq!(CapabilityPlan::new(None).bounding, CapabilitySet::empty());
    }
}
