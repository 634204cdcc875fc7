//! Resources of a runtime spec as settings of cgroup v2 (runtime-spec `config-linux.md`, cgroups;
//! kernel `admin-guide/cgroup-v2`). Pure: values in, file names and texts out.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

/// One write to a file of a cgroup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// File name inside the cgroup.
    pub file: String,
    /// What is written.
    pub value: String,
    /// True if a kernel without that file satisfies the request all the same.
    pub optional: bool,
}

/// Why resources were refused.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResourceError {
    /// A swap limit says memory and swap together, so it needs a memory limit.
    #[error("swap limit without a memory limit")]
    SwapWithoutMemory,
    /// Memory and swap together are less than memory.
    #[error("limit of {swap} bytes for memory and swap is below the memory limit of {memory}")]
    SwapBelowMemory {
        /// The limit on both.
        swap: i64,
        /// The limit on memory.
        memory: i64,
    },
    /// A value that makes no sense.
    #[error("{name} {value} is out of range")]
    OutOfRange {
        /// Which.
        name: &'static str,
        /// What it was.
        value: i128,
    },
    /// A name that is not a file of a cgroup.
    #[error("{0:?} is not the name of a cgroup file")]
    Name(String),
    /// Something that cgroup v2 has no file for.
    #[error("{0} is not supported by cgroup v2")]
    Unsupported(&'static str),
}

/// The settings that `resources` ask for, in the order in which they are to be made. Rules on
/// devices are not among them (see [`super::device_rule`]).
///
/// # Errors
/// [`ResourceError`]
pub fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, ResourceError> {
    let mut out = Settings(Vec::new());
    if let Some(memory) = resources.memory() {
        out.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        out.cpu(cpu)?;
    }
    if let Some(pids) = resources.pids() {
        let limit = pids.limit();
        out.set("pids.max", if limit > 0 { limit.to_string() } else { "max".to_owned() });
    }
    if let Some(block) = resources.block_io() {
        out.block_io(block)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", limit.page_size());
        out.set(&checked_name(&file)?, limit.limit().to_string());
    }
    if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        return Err(ResourceError::Unsupported("a limit on RDMA"));
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        out.set(&checked_name(file)?, value.clone());
    }
    Ok(out.0)
}

struct Settings(Vec<Setting>);

impl Settings {
    fn set(&mut self, file: &str, value: String) {
        self.0.push(Setting { file: file.to_owned(), value, optional: false });
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), ResourceError> {
        let limit = memory.limit().filter(|limit| *limit != 0);
        if let Some(limit) = limit {
            self.set("memory.max", bytes("memory limit", limit)?);
        }
        if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
            self.set("memory.low", bytes("memory reservation", reservation)?);
        }
        if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
            let value = match (swap, limit) {
                (-1, _) => "max".to_owned(),
                (swap, Some(memory)) if memory > 0 => swap
                    .checked_sub(memory)
                    .filter(|swap| *swap >= 0)
                    .ok_or(ResourceError::SwapBelowMemory { swap, memory })?
                    .to_string(),
                _ => return Err(ResourceError::SwapWithoutMemory),
            };
            // A kernel without swap lets nobody use any.
            self.0.push(Setting { file: "memory.swap.max".to_owned(), value, optional: true });
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), ResourceError> {
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            self.set("cpu.weight", weight_of_shares(shares).to_string());
        }
        if let Some(idle) = cpu.idle() {
            self.set("cpu.idle", idle.to_string());
        }
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let period = cpu.period().filter(|period| *period != 0);
        if quota.is_some() || period.is_some() {
            let quota = match quota {
                Some(quota) if quota > 0 => quota.to_string(),
                _ => "max".to_owned(),
            };
            let period = period.map(|period| format!(" {period}")).unwrap_or_default();
            self.set("cpu.max", quota + &period);
        }
        if let Some(burst) = cpu.burst().filter(|burst| *burst != 0) {
            self.set("cpu.max.burst", burst.to_string());
        }
        for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                self.set(file, list.clone());
            }
        }
        let realtime = cpu.realtime_runtime().is_some_and(|runtime| runtime != 0)
            || cpu.realtime_period().is_some_and(|period| period != 0);
        if realtime { Err(ResourceError::Unsupported("a realtime CPU limit")) } else { Ok(()) }
    }

    fn block_io(&mut self, block: &LinuxBlockIo) -> Result<(), ResourceError> {
        if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
            self.set("io.weight", format!("default {}", weight_of_block_io(weight)?));
        }
        for device in block.weight_device().iter().flatten() {
            if let Some(weight) = device.weight() {
                let value = weight_of_block_io(weight)?;
                let (major, minor) = (device.major(), device.minor());
                self.set("io.weight", format!("{major}:{minor} {value}"));
            }
        }
        self.throttle("rbps", block.throttle_read_bps_device().as_deref());
        self.throttle("wbps", block.throttle_write_bps_device().as_deref());
        self.throttle("riops", block.throttle_read_iops_device().as_deref());
        self.throttle("wiops", block.throttle_write_iops_device().as_deref());
        Ok(())
    }

    fn throttle(&mut self, key: &str, devices: Option<&[LinuxThrottleDevice]>) {
        for device in devices.unwrap_or_default() {
            let (major, minor, rate) = (device.major(), device.minor(), device.rate());
            self.set("io.max", format!("{major}:{minor} {key}={rate}"));
        }
    }
}

fn bytes(name: &'static str, value: i64) -> Result<String, ResourceError> {
    match value {
        -1 => Ok("max".to_owned()),
        value if value > 0 => Ok(value.to_string()),
        value => Err(ResourceError::OutOfRange { name, value: value.into() }),
    }
}

/// Shares of cgroup v1, 2 to 262144, on the scale of v2, 1 to 10000.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// A block I/O weight of cgroup v1, 10 to 1000, on the scale of v2, 1 to 10000.
fn weight_of_block_io(weight: u16) -> Result<u64, ResourceError> {
    if !(10..=1000).contains(&weight) {
        return Err(ResourceError::OutOfRange { name: "block I/O weight", value: weight.into() });
    }
    Ok(1 + (u64::from(weight) - 10) * 9999 / 990)
}

/// A name such as `memory.high`: a file of a controller, neither a path nor `cgroup.…`.
fn checked_name(name: &str) -> Result<String, ResourceError> {
    let sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if sound && name.contains('.') && !name.starts_with('.') && !name.starts_with("cgroup.") {
        Ok(name.to_owned())
    } else {
        Err(ResourceError::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<(String, String)>, ResourceError> {
        let resources = serde_json::from_str(json).unwrap();
        Ok(settings(&resources)?.into_iter().map(|one| (one.file, one.value)).collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, ResourceError> {
        Ok(expected.iter().map(|(file, value)| ((*file).into(), (*value).into())).collect())
    }

    #[test]
    fn nothing_asked_is_nothing_set() {
        assert_eq!(of("{}"), pairs(&[]));
        assert_eq!(
            of(r#"{"memory":{"limit":0,"swap":0},"cpu":{"shares":0,"quota":0}}"#),
            pairs(&[])
        );
    }

    #[test]
    fn memory_and_swap_together_become_swap_alone() {
        assert_eq!(
            of(r#"{"memory":{"limit":1000,"reservation":500,"swap":1500}}"#),
            pairs(&[("memory.max", "1000"), ("memory.low", "500"), ("memory.swap.max", "500")])
        );
        assert_eq!(
            of(r#"{"memory":{"limit":1000,"swap":-1}}"#),
            pairs(&[("memory.max", "1000"), ("memory.swap.max", "max")])
        );
        assert_eq!(of(r#"{"memory":{"limit":-1}}"#), pairs(&[("memory.max", "max")]));
    }

    #[test]
    fn senseless_memory_is_refused() {
        assert_eq!(
            of(r#"{"memory":{"limit":1000,"swap":999}}"#),
            Err(ResourceError::SwapBelowMemory { swap: 999, memory: 1000 })
        );
        assert_eq!(of(r#"{"memory":{"swap":999}}"#), Err(ResourceError::SwapWithoutMemory));
        assert_eq!(
            of(r#"{"memory":{"limit":-5}}"#),
            Err(ResourceError::OutOfRange { name: "memory limit", value: -5 })
        );
    }

    #[test]
    fn cpu_shares_quota_and_sets_are_translated() {
        assert_eq!(
            of(r#"{"cpu":{"shares":1024,"quota":150000,"period":100000,"cpus":"0-1","mems":"0"}}"#),
            pairs(&[
                ("cpu.weight", "39"),
                ("cpu.max", "150000 100000"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
            ])
        );
        assert_eq!(of(r#"{"cpu":{"quota":-1,"period":5000}}"#), pairs(&[("cpu.max", "max 5000")]));
        assert_eq!(of(r#"{"cpu":{"shares":2}}"#), pairs(&[("cpu.weight", "1")]));
        assert_eq!(of(r#"{"cpu":{"shares":999999}}"#), pairs(&[("cpu.weight", "10000")]));
    }

    #[test]
    fn pids_below_one_are_unlimited() {
        assert_eq!(of(r#"{"pids":{"limit":64}}"#), pairs(&[("pids.max", "64")]));
        assert_eq!(of(r#"{"pids":{"limit":-1}}"#), pairs(&[("pids.max", "max")]));
    }

    #[test]
    fn block_io_is_translated() {
        assert_eq!(
            of(r#"{"blockIO":{"weight":500,"throttleReadBpsDevice":
                [{"major":8,"minor":0,"rate":1048576}]}}"#),
            pairs(&[("io.weight", "default 4950"), ("io.max", "8:0 rbps=1048576")])
        );
        assert!(of(r#"{"blockIO":{"weight":5}}"#).is_err());
    }

    #[test]
    fn unified_names_are_files_of_controllers_only() {
        assert_eq!(of(r#"{"unified":{"memory.high":"5"}}"#), pairs(&[("memory.high", "5")]));
        for name in ["../x.y", "cgroup.procs", "nodot", "a/b.c", ".x", ""] {
            let json = format!(r#"{{"unified":{{"{name}":"1"}}}}"#);
            assert_eq!(of(&json), Err(ResourceError::Name(name.into())), "{name}");
        }
    }
}
