//! One run of a container: its sandbox, its process, its streams.

use std::sync::Arc;

use husk_api::{ApiError, ErrorCode};
use husk_protocol::{
    AgentErrorKind, CreateContainer, ExitStatus, IMAGE_DISK, Open, ReplyBody, RequestBody, Rootfs,
    Stream, WRITABLE_DISK,
};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::log::Stored;
use super::output::Pump;
use super::{Container, spec};
use crate::chain::{chain, one_line};
use crate::clock::now_unix_ns;
use crate::context::Context;
use crate::limits::STOP_DEADLINE;
use crate::sandbox::{
    AcceleratorChoice, AgentCallError, RunDir, Sandbox, SandboxConfig, SandboxError, VmmProcess,
    memory_mib, vcpus,
};

/// A run under way; dropping it leaves the microVM running and the guest with its output.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) sandbox: Sandbox,
    end: JoinHandle<RunEnd>,
    input: Option<JoinHandle<()>>,
}

/// How a run ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum RunEnd {
    /// The process ended, and all its output is stored.
    Exited(ExitStatus),
    /// The microVM is gone, or nobody in it answers.
    Lost(String),
}

/// Why a run could not be started, and the exit code that stands for it.
#[derive(Clone, Debug)]
pub(super) struct StartFailure {
    pub(super) error: ApiError,
    pub(super) exit_code: i64,
}

/// Exit code of a container that the engine could not start.
const NOT_STARTED: i64 = 128;

impl From<ApiError> for StartFailure {
    fn from(error: ApiError) -> Self {
        Self { error, exit_code: NOT_STARTED }
    }
}

impl Run {
    /// Boots a sandbox and executes the container's program in it. If it fails or is dropped,
    /// [`RunDir::clear`] ends what was started.
    pub(super) async fn start(
        context: &Context,
        container: &Container,
    ) -> Result<Self, StartFailure> {
        let sandbox = boot(context, container).await?;
        let agent = sandbox.agent();
        let process = container.id.to_string();
        let create = CreateContainer {
            id: process.clone(),
            rootfs: Rootfs {
                image_disk: IMAGE_DISK.to_owned(),
                writable_disk: WRITABLE_DISK.to_owned(),
            },
            user: container.definition.config.user.clone().unwrap_or_default(),
            spec: spec::build(&container.definition)?,
            files: spec::provided_files(&container.definition),
            stdin: container.definition.open_stdin(),
        };
        let unix_ns = u64::try_from(now_unix_ns()).unwrap_or(0);
        let failed = |error: AgentCallError| start_failure(container, &error);
        let (time, created) = tokio::join!(
            agent.command(RequestBody::SetTime { unix_ns }),
            agent.command(RequestBody::CreateContainer(Box::new(create))),
        );
        time.map_err(failed)?;
        created.map_err(failed)?;
        let streams = Streams::open(&sandbox, container, Stored::default(), false);
        let streams = streams.await.map_err(failed)?;
        match agent.call(RequestBody::Start { process }).await {
            Ok(ReplyBody::Started { .. }) => Ok(streams.watch(sandbox, container)),
            Ok(_) => Err(failed(AgentCallError::Unexpected)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Finds the run that a former daemon left, and goes on where its log ends.
    pub(super) async fn find(context: &Context, container: &Container) -> Result<Self, String> {
        let dir = RunDir::new(context.paths.sandbox(&container.id));
        let sandbox = Sandbox::find(dir).await.map_err(|error| chain(&error))?;
        let hub = Arc::clone(&container.output);
        let stored = spawn_blocking(move || hub.open_log(true)).await;
        let stored = stored.expect("opening a log does not panic");
        let stored = stored.map_err(|error| format!("failed to open its log: {error}"))?;
        let streams = Streams::open(&sandbox, container, stored, true).await;
        Ok(streams.map_err(|error| chain(&error))?.watch(sandbox, container))
    }

    /// Waits for the end.
    pub(super) async fn ended(&mut self) -> RunEnd {
        (&mut self.end).await.unwrap_or_else(|error| RunEnd::Lost(error.to_string()))
    }

    /// Stops watching and carrying; what is not stored yet stays with the agent.
    pub(super) fn release(self) -> Sandbox {
        self.end.abort();
        if let Some(input) = &self.input {
            input.abort();
        }
        self.sandbox
    }
}

async fn boot(context: &Context, container: &Container) -> Result<Sandbox, StartFailure> {
    let definition = &container.definition;
    let host = &definition.host_config;
    let annotations = host.annotations.as_ref();
    let resolved = AcceleratorChoice::from_annotations(annotations, context.accelerator)?
        .resolve(context.probe.get().await?)?;
    let accelerator = resolved.accelerator;
    let images = Arc::clone(&context.images);
    let image_id = definition.image_id.clone();
    let image = spawn_blocking(move || images.find(&image_id)).await;
    let image = image.expect("finding an image does not panic").map_err(|error| {
        let message = format!("image of container {} is gone: {}", container.name, error.report());
        ApiError::new(ErrorCode::NotFound, message)
    })?;
    let directory = context.paths.container(&container.id);
    let hub = Arc::clone(&container.output);
    let prepared = spawn_blocking(move || {
        std::fs::create_dir_all(&directory)?;
        hub.open_log(false)
    });
    prepared.await.expect("opening a log does not panic").map_err(|error| {
        let message = format!("failed to prepare container {}: {error}", container.name);
        ApiError::new(ErrorCode::Internal, message)
    })?;
    let config = SandboxConfig {
        name: container.id.short().to_owned(),
        resolved,
        vcpus: vcpus(host, accelerator, context.host_cpus),
        memory_mib: memory_mib(host),
        image,
        writable_disk: context.paths.writable_disk(&container.id),
    };
    let dir = RunDir::new(context.paths.sandbox(&container.id));
    // What a former attempt left is in the way.
    dir.clear().await;
    Sandbox::boot(dir, config, &context.paths, &context.images, &context.disks).await.map_err(
        |error| {
            let code = match &error {
                SandboxError::Image(_) | SandboxError::Disk(_) | SandboxError::Io { .. } => {
                    ErrorCode::Internal
                }
                _ => ErrorCode::Unavailable,
            };
            let message =
                format!("failed to start container {}: {}", container.name, chain(&error));
            ApiError::new(code, message).into()
        },
    )
}

/// The connections of a process, opened and not yet carried.
struct Streams {
    outputs: Vec<(Pump, tokio::net::UnixStream, u64)>,
    input: Option<tokio::net::UnixStream>,
    ending: CancellationToken,
    is_found: bool,
}

impl Streams {
    async fn open(
        sandbox: &Sandbox,
        container: &Container,
        stored: Stored,
        is_found: bool,
    ) -> Result<Self, AgentCallError> {
        let ending = CancellationToken::new();
        let process = container.id.to_string();
        let mut wanted = vec![(Stream::Stdout, stored.stdout)];
        if !container.definition.tty() {
            wanted.push((Stream::Stderr, stored.stderr));
        }
        let mut outputs = Vec::new();
        for (stream, offset) in wanted {
            let pump = Pump {
                agent: sandbox.agent().clone(),
                process: process.clone(),
                stream,
                hub: Arc::clone(&container.output),
                ending: ending.clone(),
            };
            let connection = pump.open(offset).await?;
            outputs.push((pump, connection, offset));
        }
        let input = if container.definition.open_stdin() {
            match sandbox.agent().open(&Open::Input { process }).await {
                Ok(connection) => Some(connection),
                // Its input has ended already.
                Err(AgentCallError::Refused(_)) if is_found => None,
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        Ok(Self { outputs, input, ending, is_found })
    }

    fn watch(self, sandbox: Sandbox, container: &Container) -> Run {
        let mut outputs = JoinSet::new();
        for (pump, connection, offset) in self.outputs {
            outputs.spawn(pump.run(connection, offset));
        }
        let source = container.input.start_run(self.is_found);
        let input = self.input.map(|connection| {
            tokio::spawn(async move {
                // A process that takes no more input is no failure.
                if let Err(error) = source.run(connection).await {
                    tracing::debug!(%error, "standard input ended");
                }
            })
        });
        let agent = sandbox.agent().clone();
        let vmm = Arc::clone(sandbox.vmm());
        let process = container.id.to_string();
        let ending = self.ending;
        let end = tokio::spawn(async move {
            let wait = agent.call(RequestBody::Wait { process });
            let reply = tokio::select! {
                reply = wait => reply,
                () = vmm.ended() => return lost(&vmm, "ended"),
            };
            match reply {
                Ok(ReplyBody::Exited(status)) => {
                    ending.cancel();
                    drain(outputs, &vmm).await;
                    RunEnd::Exited(status)
                }
                Ok(_) => RunEnd::Lost(AgentCallError::Unexpected.to_string()),
                // Mostly the microVM is about to end, which says more.
                Err(error) => match timeout(STOP_DEADLINE, vmm.ended()).await {
                    Ok(()) => lost(&vmm, "ended"),
                    Err(_) => RunEnd::Lost(chain(&error)),
                },
            }
        });
        Run { sandbox, end, input }
    }
}

fn lost(vmm: &VmmProcess, what: &str) -> RunEnd {
    RunEnd::Lost(format!("husk-vmm (process {}) {what}", vmm.pid()))
}

/// Waits until all output is stored, or can no longer come.
async fn drain(mut outputs: JoinSet<Result<(), AgentCallError>>, vmm: &VmmProcess) {
    let rest = async {
        while let Some(carried) = outputs.join_next().await {
            if let Ok(Err(error)) = carried {
                tracing::warn!(error = chain(&error), "output may be incomplete");
            }
        }
    };
    tokio::pin!(rest);
    tokio::select! {
        () = &mut rest => {}
        // What it sent before it ended is still in the socket.
        () = vmm.ended() => drop(timeout(STOP_DEADLINE, rest).await),
    }
}

/// An error that the docker client turns into exit code 127, 126 or 125: it looks for these words.
fn start_failure(container: &Container, error: &AgentCallError) -> StartFailure {
    let program = container.definition.args().first().cloned().unwrap_or_default();
    let (code, exit_code, reason) = match error {
        AgentCallError::Refused(refused) => match refused.kind {
            AgentErrorKind::CommandNotFound => {
                (ErrorCode::InvalidArgument, 127, not_found(&program, &refused.message))
            }
            AgentErrorKind::CommandNotExecutable => {
                (ErrorCode::InvalidArgument, 126, not_executable(&program, &refused.message))
            }
            AgentErrorKind::InvalidArgument | AgentErrorKind::Unsupported => {
                (ErrorCode::InvalidArgument, NOT_STARTED, refused.message.clone())
            }
            AgentErrorKind::NotFound | AgentErrorKind::InvalidState | AgentErrorKind::Internal => {
                (ErrorCode::Internal, NOT_STARTED, refused.message.clone())
            }
        },
        _ => (ErrorCode::Unavailable, NOT_STARTED, chain(error)),
    };
    let message = format!("failed to start container {}: {}", container.name, one_line(&reason));
    StartFailure { error: ApiError::new(code, message), exit_code }
}

fn not_found(program: &str, message: &str) -> String {
    if message.contains("executable file not found")
        || message.contains("no such file or directory")
    {
        message.to_owned()
    } else if program.contains('/') {
        format!("exec: {program:?}: stat {program}: no such file or directory")
    } else {
        format!("exec: {program:?}: executable file not found in $PATH")
    }
}

fn not_executable(program: &str, message: &str) -> String {
    if message.contains("permission denied") || message.contains("is a directory") {
        message.to_owned()
    } else {
        format!("exec: {program:?}: permission denied")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docker_client_finds_the_words_for_its_exit_codes() {
        assert_eq!(not_found("foo", "ENOENT"), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(not_found("/foo", "x"), "exec: \"/foo\": stat /foo: no such file or directory");
        assert_eq!(not_executable("/etc", "EACCES"), "exec: \"/etc\": permission denied");
        assert_eq!(not_executable("/etc", "/etc is a directory"), "/etc is a directory");
    }

    #[test]
    fn causes_follow_on_the_same_line() {
        let error = AgentCallError::Connection(std::io::Error::other("a\nb"));
        assert_eq!(chain(&error), "failed to talk to the agent in the guest: a b");
    }
}
