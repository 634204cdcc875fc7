//! A container as the Engine API shows it: in listings, and in full.

use std::collections::HashMap;

use husk_api::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryHostConfig, ContainerSummaryNetworkSettings, ContainerSummaryStateEnum,
    DriverData, EndpointSettings, NetworkSettings,
};

use husk_api::{BootStep, GuestMemory, SandboxReport};
use husk_vmm_config::{Accelerator, Statistics};

use super::Container;
use super::transition::Phase;
use crate::clock::{in_words, now_unix_ns, rfc3339};
use crate::paths::Paths;
use crate::store::Status;

/// What Docker calls the way in which image and writable layer are joined.
pub(crate) const STORAGE_DRIVER: &str = "erofs";

/// The container in a listing.
pub(crate) fn summary(container: &Container) -> ContainerSummary {
    let (definition, status) = (&container.definition, container.status());
    let host = &definition.host_config;
    ContainerSummary {
        id: Some(container.id.to_string()),
        names: Some(vec![format!("/{}", container.name)]),
        image: Some(definition.image.clone()),
        image_id: Some(definition.image_id.clone()),
        command: Some(command_line(&definition.args())),
        created: Some(container.created_unix_ns / 1_000_000_000),
        ports: Some(Vec::new()),
        labels: Some(definition.config.labels.clone().unwrap_or_default()),
        state: Some(match status.phase {
            Phase::Created | Phase::Starting => ContainerSummaryStateEnum::CREATED,
            Phase::Running => ContainerSummaryStateEnum::RUNNING,
            Phase::Exited => ContainerSummaryStateEnum::EXITED,
            Phase::Removing => ContainerSummaryStateEnum::REMOVING,
        }),
        status: Some(status_text(&status, now_unix_ns())),
        host_config: Some(ContainerSummaryHostConfig {
            network_mode: host.network_mode.clone(),
            annotations: host.annotations.clone(),
        }),
        network_settings: Some(ContainerSummaryNetworkSettings { networks: Some(networks()) }),
        mounts: Some(Vec::new()),
        ..ContainerSummary::default()
    }
}

/// Status as a listing words it.
fn status_text(status: &Status, now: i64) -> String {
    let since = |time: Option<i64>| in_words(now - time.unwrap_or(now));
    match status.phase {
        Phase::Created | Phase::Starting => "Created".to_owned(),
        Phase::Running => format!("Up {}", since(status.started_unix_ns)),
        Phase::Exited => {
            format!("Exited ({}) {} ago", status.exit_code, since(status.finished_unix_ns))
        }
        Phase::Removing => "Removal In Progress".to_owned(),
    }
}

fn command_line(args: &[String]) -> String {
    let quote = |arg: &String| {
        if arg.contains(' ') { format!("'{arg}'") } else { arg.clone() }
    };
    let mut words = args.iter();
    let program = words.next().cloned().unwrap_or_default();
    [program].into_iter().chain(words.map(quote)).collect::<Vec<_>>().join(" ")
}

/// The container in full.
pub(crate) fn inspect(container: &Container, paths: &Paths) -> ContainerInspectResponse {
    let (definition, status) = (&container.definition, container.status());
    let mut args = definition.args();
    let program = if args.is_empty() { String::new() } else { args.remove(0) };
    let empty = || Some(String::new());
    ContainerInspectResponse {
        id: Some(container.id.to_string()),
        created: Some(rfc3339(Some(container.created_unix_ns))),
        path: Some(program),
        args: Some(args),
        state: Some(state(&status)),
        image: Some(definition.image_id.clone()),
        resolv_conf_path: empty(),
        hostname_path: empty(),
        hosts_path: empty(),
        log_path: Some(paths.log(&container.id).display().to_string()),
        name: Some(format!("/{}", container.name)),
        restart_count: Some(0),
        driver: Some(STORAGE_DRIVER.to_owned()),
        platform: Some(definition.platform.clone()),
        mount_label: empty(),
        process_label: empty(),
        app_armor_profile: empty(),
        host_config: Some(definition.host_config.clone()),
        graph_driver: Some(DriverData {
            name: STORAGE_DRIVER.to_owned(),
            data: HashMap::from([(
                "WritableDisk".to_owned(),
                paths.writable_disk(&container.id).display().to_string(),
            )]),
        }),
        mounts: Some(Vec::new()),
        config: Some(definition.config.clone()),
        network_settings: Some(NetworkSettings {
            sandbox_id: Some(container.id.short().to_owned()),
            sandbox_key: Some(paths.sandbox(&container.id).display().to_string()),
            ports: Some(HashMap::new()),
            networks: Some(networks()),
        }),
        ..ContainerInspectResponse::default()
    }
}

/// A microVM's counts, in the API's words.
pub(crate) fn sandbox(accelerator: Accelerator, statistics: &Statistics) -> SandboxReport {
    let steps = statistics.steps.iter();
    SandboxReport {
        accelerator: accelerator.as_str().to_owned(),
        boot_steps: steps
            .map(|step| BootStep { name: step.name.clone(), microseconds: step.us })
            .collect(),
        exits: statistics.exits.clone(),
        memory: GuestMemory {
            touched_bytes: statistics.memory.touched,
            dirty_bytes: statistics.memory.dirty,
        },
    }
}

fn state(status: &Status) -> ContainerState {
    ContainerState {
        status: Some(match status.phase {
            Phase::Created | Phase::Starting => ContainerStateStatusEnum::CREATED,
            Phase::Running => ContainerStateStatusEnum::RUNNING,
            Phase::Exited => ContainerStateStatusEnum::EXITED,
            Phase::Removing => ContainerStateStatusEnum::REMOVING,
        }),
        running: Some(status.phase == Phase::Running),
        paused: Some(false),
        restarting: Some(false),
        oom_killed: Some(status.oom_killed),
        dead: Some(false),
        // The process's ID on the host is that of its microVM.
        pid: Some(status.vmm_pid.map_or(0, i64::from)),
        exit_code: Some(status.exit_code),
        error: Some(status.error.clone()),
        started_at: Some(rfc3339(status.started_unix_ns)),
        finished_at: Some(rfc3339(status.finished_unix_ns)),
        health: None,
    }
}

/// No container is on a network yet, whatever its mode says.
fn networks() -> HashMap<String, EndpointSettings> {
    HashMap::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_read_as_in_docker() {
        const SECOND: i64 = 1_000_000_000;
        let mut status = Status::created();
        assert_eq!(status_text(&status, 0), "Created");
        status.phase = Phase::Running;
        status.started_unix_ns = Some(10 * SECOND);
        assert_eq!(status_text(&status, 13 * SECOND), "Up 3 seconds");
        status.phase = Phase::Exited;
        status.finished_unix_ns = Some(20 * SECOND);
        assert_eq!(status_text(&status, 141 * SECOND), "Exited (0) 2 minutes ago");
    }

    #[test]
    fn arguments_with_blanks_are_quoted() {
        let args = ["sh", "-c", "echo hi"].map(str::to_owned);
        assert_eq!(command_line(&args), "sh -c 'echo hi'");
        assert_eq!(command_line(&[]), "");
    }
}
