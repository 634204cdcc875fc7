//! The life of the process, from handover to exit status.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use husk_vmm_config::{Accelerator, Event, StopReason, VmConfig, step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

use crate::accelerator::{self, Guest, Kvm, Software};
use crate::control::Control;
use crate::handover::{self, HandoverError, PAUSE_MAX};
use crate::jail::{self, Jail, JailError};
use crate::machine::{self, Descriptors, MachineError};
use crate::poll::Poll;
use crate::seccomp::{self, ThreadKind};
use crate::supervisor::{CONTROL_TOKENS, Cause, Supervisor};
use crate::sys::{TerminationSignals, TscReading, close_inherited, standard_input, use_one_heap};
use crate::timeline::Timeline;

/// Why a microVM did not end as a guest should; what the exit status 1 stands for.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No configuration came, or none that can be used.
    #[error("failed to take the configuration over")]
    Handover(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The process itself could not be set up.
    #[error("failed to {attempt}")]
    Process {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no jail to be had.
    #[error("failed to enter the jail")]
    Jail(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The microVM could not be set up.
    #[error("failed to set the microVM up: {0}")]
    Setup(String),
    /// The guest's kernel panicked.
    #[error("the guest's kernel panicked")]
    Panic,
    /// What ran it failed.
    #[error("{0}")]
    Accelerator(String),
}

impl From<HandoverError> for RunError {
    fn from(error: HandoverError) -> Self {
        Self::Handover(error.into())
    }
}

impl From<JailError> for RunError {
    fn from(error: JailError) -> Self {
        Self::Jail(error.into())
    }
}

impl From<MachineError> for RunError {
    fn from(error: MachineError) -> Self {
        Self::Handover(error.into())
    }
}

/// Runs the microVM whose configuration comes on standard input, until it is gone.
///
/// Everything that ends it once the control socket is known is told there and in the report file.
pub fn run() -> Result<(), RunError> {
    let failed = |attempt| move |source| RunError::Process { attempt, source };
    let timeline = Arc::new(Timeline::new());
    close_inherited();
    // Before any thread: they all inherit the signal mask and the allocator's settings.
    use_one_heap();
    let tsc = TscReading::now();
    // It fails only where we lead a session already, and so need no other.
    let _ = setsid();
    raise_open_files();
    wait_for_handover().map_err(failed("wait for the configuration"))?;
    let mut jail = jail::enter(&timeline)?;
    let signals = TerminationSignals::block().map_err(failed("block signals"))?;
    let socket = standard_input().map_err(failed("use standard input"))?;
    let (mut config, fds) = handover::receive(socket)?;
    timeline.mark(step::CONFIGURED);
    jail.fit(&mut config);
    let (mut supervisor, report, fds) = open(&config, fds, signals, timeline.clone())?;
    let version = env!("CARGO_PKG_VERSION").into();
    supervisor.tell(&Event::Hello { version, pid: jail.outer_pid() });
    let start = Start { fds, jail, tsc, timeline };
    let stopped = live(&mut supervisor, &config, start);
    supervisor.tell(&stopped);
    write_report(report, &stopped).map_err(failed("write the report"))?;
    outcome(stopped)
}

/// Waits until the engine begins to hand over, or should have: by then it has put this process where
/// it wants it, into a cgroup, and all that comes from this process will be there too.
fn wait_for_handover() -> io::Result<()> {
    let stdin = io::stdin();
    let mut arrived = [PollFd::new(&stdin, PollFlags::IN)];
    let patience = Timespec::try_from(PAUSE_MAX).map_err(io::Error::other)?;
    Ok(poll(&mut arrived, Some(&patience)).map(|_| ())?)
}

/// The soft limit on open files becomes the hard one: a disk may have a thousand segments.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it fails, the descriptors that find no room say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// What it takes to tell how things go.
fn open(
    config: &VmConfig,
    fds: Vec<OwnedFd>,
    signals: TerminationSignals,
    timeline: Arc<Timeline>,
) -> Result<(Supervisor, File, Descriptors), RunError> {
    let failed = |attempt| move |source| RunError::Process { attempt, source };
    let fds = Descriptors::new(fds);
    let report = fds.file(config.report, "report", true)?;
    let listener = fds.listener(config.control, "control")?;
    let poll = Poll::new().map_err(failed("make an event loop"))?;
    let control = Control::new(listener, &poll, CONTROL_TOKENS);
    let control = control.map_err(failed("watch the control socket"))?;
    let supervisor = Supervisor::new(poll, signals, control, timeline);
    let supervisor = supervisor.map_err(failed("watch signals"))?;
    Ok((supervisor, report, fds))
}

/// Starts the guest and waits for its end; nothing of it is left afterwards.
fn live(supervisor: &mut Supervisor, config: &VmConfig, start: Start) -> Event {
    let setup = |error: anyhow::Error| Event::Stopped {
        reason: StopReason::Setup { error: format!("{error:#}") },
        console: String::new(),
    };
    let mut guest = match start.run(supervisor, config) {
        Ok(guest) => guest,
        Err(error) => return setup(error),
    };
    // All threads are there, with filters of their own.
    if let Err(error) = seccomp::install(ThreadKind::Supervisor) {
        return setup(error.into());
    }
    match supervisor.wait(&mut *guest, config.accelerator) {
        Ok(cause) => {
            if cause == Cause::Requested {
                // What it printed last counts as well.
                drop(guest);
            }
            supervisor.stopped(cause)
        }
        Err(error) => setup(error.into()),
    }
}

/// What a start takes that is used up by it.
struct Start {
    fds: Descriptors,
    jail: Jail,
    tsc: TscReading,
    timeline: Arc<Timeline>,
}

impl Start {
    fn run(self, supervisor: &Supervisor, config: &VmConfig) -> anyhow::Result<Box<dyn Guest>> {
        let Self { fds, jail, tsc, timeline } = self;
        let mut machine = machine::build(config, &fds, tsc, &timeline)?;
        timeline.mark(step::DEVICES);
        // Each device has a duplicate of what it needs.
        drop(fds);
        let accelerator: &dyn accelerator::Accelerator = match config.accelerator {
            Accelerator::Kvm => {
                jail.close()?;
                &Kvm
            }
            // The emulator is opened by path.
            Accelerator::Software => {
                machine.jail = Some(jail);
                &Software
            }
        };
        Ok(accelerator.start(machine, supervisor.poll())?)
    }
}

fn write_report(mut report: File, stopped: &Event) -> io::Result<()> {
    let json = serde_json::to_vec(stopped).map_err(io::Error::other)?;
    report.write_all(&json)
}

fn outcome(stopped: Event) -> Result<(), RunError> {
    let Event::Stopped { reason, .. } = stopped else { return Ok(()) };
    match reason {
        StopReason::Guest | StopReason::Requested => Ok(()),
        StopReason::Setup { error } => Err(RunError::Setup(error)),
        StopReason::Panic => Err(RunError::Panic),
        StopReason::Accelerator { error } => Err(RunError::Accelerator(error)),
    }
}
