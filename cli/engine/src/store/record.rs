//! What is durably known of a container.

use husk_api::SandboxReport;
use husk_api::models::{ContainerConfig, HostConfig};
use husk_vmm_config::Accelerator;
use serde::{Deserialize, Serialize};

use crate::container::transition::Phase;
use crate::id::ContainerId;

/// A container as it is on disk: what was asked for, and how far it has come.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Record {
    /// Its ID.
    pub(crate) id: ContainerId,
    /// Its name, without a leading slash.
    pub(crate) name: String,
    /// When it was created, nanoseconds since 1970.
    pub(crate) created_unix_ns: i64,
    /// What it was created from; never changes.
    pub(crate) definition: Definition,
    /// How far it has come; the driver alone writes it.
    pub(crate) status: Status,
}

/// What a container was created from: image configuration and request, merged.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Definition {
    /// The image as the client named it.
    pub(crate) image: String,
    /// The image's ID (`sha256:…`).
    pub(crate) image_id: String,
    /// `linux`, as the Engine API's `Platform`.
    pub(crate) platform: String,
    /// Settings of the process.
    pub(crate) config: ContainerConfig,
    /// Settings of its surroundings, as asked for.
    pub(crate) host_config: HostConfig,
}

impl Definition {
    /// The program and its arguments: entrypoint, then command.
    pub(crate) fn args(&self) -> Vec<String> {
        let part = |part: &Option<Vec<String>>| part.clone().unwrap_or_default();
        let mut args = part(&self.config.entrypoint);
        args.extend(part(&self.config.cmd));
        args
    }

    /// Whether it is removed once it has ended (`--rm`).
    pub(crate) fn auto_remove(&self) -> bool {
        self.host_config.auto_remove.unwrap_or(false)
    }

    /// Whether its process has a terminal.
    pub(crate) fn tty(&self) -> bool {
        self.config.tty.unwrap_or(false)
    }

    /// Whether its process has standard input.
    pub(crate) fn open_stdin(&self) -> bool {
        self.config.open_stdin.unwrap_or(false)
    }

    /// Whether standard input ends with the first client that was attached to it.
    pub(crate) fn stdin_once(&self) -> bool {
        self.config.stdin_once.unwrap_or(false)
    }
}

/// How far a container has come.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Where it stands.
    pub(crate) phase: Phase,
    /// When its program was last executed.
    pub(crate) started_unix_ns: Option<i64>,
    /// When it last ended.
    pub(crate) finished_unix_ns: Option<i64>,
    /// Exit code of the last run, 128 + signal, or why it did not start (125 to 127).
    pub(crate) exit_code: i64,
    /// Whether memory ran out in the last run.
    pub(crate) oom_killed: bool,
    /// Why it did not start, or ended without its program having ended; else empty.
    pub(crate) error: String,
    /// What runs its microVM, while it does.
    pub(crate) accelerator: Option<Accelerator>,
    /// The process ID of its `husk-vmm` on the host, while it runs.
    pub(crate) vmm_pid: Option<u32>,
    /// What was counted of its last microVM, once that has ended.
    #[serde(default)]
    pub(crate) last_sandbox: Option<SandboxReport>,
}

impl Status {
    /// That of a container that has just been created.
    pub(crate) fn created() -> Self {
        Self {
            phase: Phase::Created,
            started_unix_ns: None,
            finished_unix_ns: None,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            accelerator: None,
            vmm_pid: None,
            last_sandbox: None,
        }
    }

    /// Whether it has ever run.
    pub(crate) fn ran_before(&self) -> bool {
        self.started_unix_ns.is_some()
    }
}
