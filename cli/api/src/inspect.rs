//! What Husk tells of a container beyond Docker's own fields.

use std::collections::BTreeMap;

use bollard_stubs::models::ContainerInspectResponse;
use serde::{Deserialize, Serialize};

/// The answer to `GET /containers/{id}/json`: Docker's, and a field of ours that its clients pass
/// over.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ContainerInspect {
    /// Docker's fields.
    #[serde(flatten)]
    pub docker: ContainerInspectResponse,
    /// The container's microVM; absent before its first start.
    #[serde(rename = "Husk", default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxReport>,
}

/// What is known of a microVM: the running one, or the last one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SandboxReport {
    /// What runs the guest's instructions: `kvm` or `software`.
    pub accelerator: String,
    /// The steps of its start, in order.
    pub boot_steps: Vec<BootStep>,
    /// Exits of its vCPUs to `husk-vmm`, by reason; empty under software emulation.
    pub exits: BTreeMap<String, u64>,
    /// What its memory costs the host.
    pub memory: GuestMemory,
}

/// A step of a start.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BootStep {
    /// What was reached.
    pub name: String,
    /// When, in microseconds since `husk-vmm` began.
    pub microseconds: u64,
}

/// Bytes of guest memory that the host had to provide.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GuestMemory {
    /// Read or written.
    pub touched_bytes: u64,
    /// Written.
    pub dirty_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_fields_and_ours_stand_side_by_side() {
        let inspect = ContainerInspect {
            docker: ContainerInspectResponse { id: Some("1".into()), ..Default::default() },
            sandbox: Some(SandboxReport {
                accelerator: "kvm".into(),
                boot_steps: vec![BootStep { name: "entered".into(), microseconds: 9 }],
                ..SandboxReport::default()
            }),
        };
        let value = serde_json::to_value(&inspect).unwrap();
        assert_eq!(value["Id"], "1");
        assert_eq!(value["Husk"]["Accelerator"], "kvm");
        assert_eq!(value["Husk"]["BootSteps"][0]["Microseconds"], 9);
        assert_eq!(serde_json::from_value::<ContainerInspect>(value).unwrap(), inspect);
    }
}
