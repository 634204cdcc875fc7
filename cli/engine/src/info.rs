//! What the engine tells about itself, the host, and its images.

use std::collections::HashMap;

use husk_api::models::{
    ImageConfig, ImageInspect, ImageInspectRootFs, ImageSummary, Runtime, SystemInfo,
    SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum, SystemVersion,
    SystemVersionComponents, SystemVersionPlatform,
};
use husk_api::{API_VERSION, MIN_API_VERSION};
use husk_image::Image;
use husk_vmm_config::Probe;

use crate::clock::{now_unix_ns, rfc3339};
use crate::container::report::STORAGE_DRIVER;
use crate::container::transition::Phase;
use crate::context::Context;
use crate::sandbox::{AcceleratorChoice, kvm_problem};

/// The version of Husk.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// About the engine and the host.
pub(crate) fn system(context: &Context, images: usize, probe: Option<&Probe>) -> SystemInfo {
    let containers = context.containers.all();
    let running =
        containers.iter().filter(|container| container.status().phase == Phase::Running).count();
    let count = |number: usize| i64::try_from(number).ok();
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    SystemInfo {
        id: Some(context.paths.data_root().display().to_string()),
        containers: count(containers.len()),
        containers_running: count(running),
        containers_paused: Some(0),
        containers_stopped: count(containers.len() - running),
        images: count(images),
        driver: Some(STORAGE_DRIVER.to_owned()),
        driver_status: Some(host_facts(context.accelerator, probe)),
        docker_root_dir: Some(context.paths.data_root().display().to_string()),
        memory_limit: Some(true),
        swap_limit: Some(false),
        cpu_cfs_period: Some(true),
        cpu_cfs_quota: Some(true),
        cpu_shares: Some(true),
        cpu_set: Some(false),
        pids_limit: Some(true),
        oom_kill_disable: Some(false),
        ipv4_forwarding: Some(false),
        debug: Some(false),
        system_time: Some(rfc3339(Some(now_unix_ns()))),
        logging_driver: Some("json-file".to_owned()),
        cgroup_driver: Some(SystemInfoCgroupDriverEnum::NONE),
        cgroup_version: Some(SystemInfoCgroupVersionEnum::_2),
        kernel_version: Some(text(uname.release())),
        operating_system: Some(os_release().unwrap_or_else(|| "Linux".to_owned())),
        os_type: Some("linux".to_owned()),
        architecture: Some(text(uname.machine())),
        ncpu: count(context.host_cpus),
        mem_total: memory_bytes(),
        index_server_address: Some("https://index.docker.io/v1/".to_owned()),
        name: Some(text(uname.nodename())),
        server_version: Some(VERSION.to_owned()),
        runtimes: Some(HashMap::from([("husk".to_owned(), Runtime::default())])),
        default_runtime: Some("husk".to_owned()),
        live_restore_enabled: Some(true),
        security_options: Some(vec!["name=microvm".to_owned()]),
        warnings: Some(warnings(context.accelerator, probe)),
        ..SystemInfo::default()
    }
}

fn host_facts(choice: AcceleratorChoice, probe: Option<&Probe>) -> Vec<Vec<String>> {
    let Some(probe) = probe else {
        return vec![vec![
            "Accelerator".to_owned(),
            "unknown: husk-vmm does not answer".to_owned(),
        ]];
    };
    let kvm = kvm_problem(&probe.kvm)
        .map_or_else(|| "usable".to_owned(), |problem| format!("not usable ({problem})"));
    let emulator = probe.emulator_version.clone().unwrap_or_else(|| "none installed".to_owned());
    let chosen = choice.resolve(probe).map_or("none", |resolved| resolved.accelerator.as_str());
    [("Accelerator", chosen.to_owned()), ("KVM", kvm), ("Emulator", emulator)]
        .map(|(name, value)| vec![name.to_owned(), value])
        .to_vec()
}

fn warnings(choice: AcceleratorChoice, probe: Option<&Probe>) -> Vec<String> {
    match probe.map(|probe| choice.resolve(probe)) {
        Some(Ok(resolved)) => resolved.warning.into_iter().collect(),
        Some(Err(error)) => vec![error.message],
        None => Vec::new(),
    }
}

/// Versions.
pub(crate) fn version() -> SystemVersion {
    let uname = rustix::system::uname();
    let part = |name: &str, version: String| SystemVersionComponents {
        name: name.to_owned(),
        version,
        details: None,
    };
    SystemVersion {
        platform: Some(SystemVersionPlatform { name: "Husk".to_owned() }),
        components: Some(vec![
            SystemVersionComponents {
                details: Some(HashMap::from([
                    ("ApiVersion".to_owned(), API_VERSION.to_owned()),
                    ("MinAPIVersion".to_owned(), MIN_API_VERSION.to_owned()),
                    ("Os".to_owned(), "linux".to_owned()),
                    ("Arch".to_owned(), architecture().to_owned()),
                ])),
                ..part("Engine", VERSION.to_owned())
            },
            part("husk-vmm", VERSION.to_owned()),
            part("husk-agent", VERSION.to_owned()),
            part("agent protocol", husk_protocol::GENERATION.to_string()),
        ]),
        version: Some(VERSION.to_owned()),
        api_version: Some(API_VERSION.to_owned()),
        min_api_version: Some(MIN_API_VERSION.to_owned()),
        git_commit: Some(String::new()),
        go_version: Some(String::new()),
        os: Some("linux".to_owned()),
        arch: Some(architecture().to_owned()),
        kernel_version: Some(uname.release().to_string_lossy().into_owned()),
        experimental: Some(false),
        build_time: Some(String::new()),
    }
}

/// An image in a listing; `containers` are those made from it.
pub(crate) fn image_summary(image: &Image, containers: usize) -> ImageSummary {
    let process = image.config.config().as_ref();
    let created = image.created.as_ref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    ImageSummary {
        id: image.id.to_string(),
        parent_id: String::new(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        created: created.map_or(0, jiff::Timestamp::as_second),
        size: i64::try_from(image.size_bytes).unwrap_or(i64::MAX),
        shared_size: -1,
        labels: process.and_then(|process| process.labels().clone()).unwrap_or_default(),
        containers: i64::try_from(containers).unwrap_or(i64::MAX),
        manifests: None,
        descriptor: None,
    }
}

/// An image in full.
pub(crate) fn image_inspect(image: &Image) -> ImageInspect {
    let process = image.config.config().clone().unwrap_or_default();
    ImageInspect {
        id: Some(image.id.to_string()),
        repo_tags: Some(image.repo_tags.clone()),
        repo_digests: Some(image.repo_digests.clone()),
        comment: Some(String::new()),
        created: image.created.clone(),
        author: Some(image.config.author().clone().unwrap_or_default()),
        config: Some(ImageConfig {
            user: process.user().clone(),
            exposed_ports: process.exposed_ports().clone(),
            env: process.env().clone(),
            cmd: process.cmd().clone(),
            volumes: process.volumes().clone(),
            working_dir: process.working_dir().clone(),
            entrypoint: process.entrypoint().clone(),
            labels: process.labels().clone(),
            stop_signal: process.stop_signal().clone(),
            ..ImageConfig::default()
        }),
        architecture: Some(image.platform.architecture.clone()),
        variant: Some(image.platform.variant.clone()).filter(|variant| !variant.is_empty()),
        os: Some(image.platform.os.clone()),
        size: i64::try_from(image.size_bytes).ok(),
        root_fs: Some(ImageInspectRootFs {
            typ: "layers".to_owned(),
            layers: Some(image.diff_ids.iter().map(ToString::to_string).collect()),
        }),
        ..ImageInspect::default()
    }
}

/// The host's architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_release() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

fn memory_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<i64>().ok()? * 1024)
}
