//! The one task that changes a container: it takes commands in, drives the sandbox, and writes
//! every step down before the effects that it stands for.

use std::collections::VecDeque;
use std::sync::Arc;

use husk_api::{ApiError, ErrorCode};
use husk_protocol::{AgentErrorKind, RequestBody};
use husk_vmm_config::Accelerator;
use tokio::sync::{mpsc, oneshot};

use super::Container;
use super::report;
use super::run::{Run, RunEnd, StartFailure};
use super::state::State;
use super::transition::{Phase, Refused, Trigger};
use crate::chain::chain;
use crate::clock::now_unix_ns;
use crate::context::Context;
use crate::recovery::Action;
use crate::sandbox::{AcceleratorChoice, AgentCallError, RunDir, Sandbox};
use crate::store::Status;

/// `SIGKILL`.
const KILL: i32 = 9;

/// Signals that take back a start under way: hang-up, interrupt, quit, kill, terminate.
const ENDING_SIGNALS: [i32; 5] = [1, 2, 3, KILL, 15];

type Answer = oneshot::Sender<Result<(), ApiError>>;

/// What clients ask of a container.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run it.
    Start {
        /// Answered once its program has been executed.
        reply: Answer,
    },
    /// Send its process a signal.
    Kill {
        /// The signal's number.
        signal: i32,
        /// Answered once it is sent.
        reply: Answer,
    },
    /// Set the size of its terminal.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
        /// Answered once it is set.
        reply: Answer,
    },
    /// Remove it.
    Remove {
        /// Whatever it does.
        force: bool,
        /// Answered once it is gone.
        reply: Answer,
    },
}

/// The driver of one container.
#[derive(Debug)]
pub(crate) struct Driver {
    container: Arc<Container>,
    context: Arc<Context>,
    commands: mpsc::Receiver<Command>,
    /// Commands that came at the wrong moment.
    deferred: VecDeque<Command>,
    state: State,
}

/// What a driver waits for.
enum Event {
    Command(Command),
    Ended(RunEnd),
    Stopping,
}

impl Driver {
    /// Starts the driver; `recovered` fires once `action` is done.
    pub(crate) fn spawn(
        container: Arc<Container>,
        context: Arc<Context>,
        commands: mpsc::Receiver<Command>,
        action: Action,
    ) -> oneshot::Receiver<()> {
        let (done, recovered) = oneshot::channel();
        let tracker = context.drivers.clone();
        let mut driver =
            Self { container, context, commands, deferred: VecDeque::new(), state: State::Resting };
        tracker.spawn(async move {
            driver.recover(action).await;
            // Nobody waits for containers made just now.
            let _ = done.send(());
            driver.run().await;
        });
        recovered
    }

    async fn run(mut self) {
        loop {
            let event = match &mut self.state {
                State::Gone => return,
                State::Resting => tokio::select! {
                    command = next(&mut self.deferred, &mut self.commands) => Event::Command(command),
                    () = self.context.stopping.cancelled() => Event::Stopping,
                },
                State::Running(run) => tokio::select! {
                    end = run.ended() => Event::Ended(end),
                    command = next(&mut self.deferred, &mut self.commands) => Event::Command(command),
                    () = self.context.stopping.cancelled() => Event::Stopping,
                },
            };
            match event {
                Event::Command(command) => self.handle(command).await,
                Event::Ended(end) => self.finish(end).await,
                Event::Stopping => {
                    if let State::Running(run) = std::mem::replace(&mut self.state, State::Gone) {
                        drop(run.release());
                    }
                    self.container.output.close();
                    return;
                }
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        // Whoever asked may be gone by the time of the answer.
        match command {
            Command::Start { reply } => {
                let result = self.start().await;
                let remove = result.is_err()
                    && self.container.definition.auto_remove()
                    && self.phase() == Phase::Created;
                let _ = reply.send(result);
                if remove {
                    self.remove().await;
                }
            }
            Command::Kill { signal, reply } => drop(reply.send(self.kill(signal).await)),
            Command::Resize { rows, columns, reply } => {
                drop(reply.send(self.resize(rows, columns).await));
            }
            Command::Remove { force, reply } => {
                let trigger = if force { Trigger::RemoveForced } else { Trigger::Remove };
                match self.next(trigger) {
                    Ok(_) => {
                        let remains = self.forget().await;
                        let _ = reply.send(Ok(()));
                        self.erase(remains).await;
                    }
                    Err(refused) => drop(reply.send(Err(self.refusal(trigger, refused)))),
                }
            }
        }
    }

    async fn start(&mut self) -> Result<(), ApiError> {
        if let Err(refused) = self.next(Trigger::Start) {
            return Err(self.refusal(Trigger::Start, refused));
        }
        if self.context.stopping.is_cancelled() {
            return Err(ApiError::new(ErrorCode::Unavailable, "the daemon is shutting down"));
        }
        let ran_before = self.container.status().ran_before();
        self.record(|status| {
            status.phase = step(status.phase, Trigger::Start);
            status.error.clear();
            status.oom_killed = false;
        })
        .await?;
        let started = match self.boot().await {
            Ok(run) => self.started(run).await,
            Err(failure) => Err(failure),
        };
        let Err(failure) = started else { return Ok(()) };
        RunDir::new(self.context.paths.sandbox(&self.container.id)).clear().await;
        self.container.output.close();
        self.container.input.end_run();
        let StartFailure { error, exit_code } = failure;
        let message = error.message.clone();
        let rolled_back = self
            .record(|status| {
                status.phase = step(status.phase, Trigger::StartFailed { ran_before });
                status.exit_code = exit_code;
                status.error = message;
            })
            .await;
        self.log_failure("roll back a start", rolled_back);
        self.container.waiters.exited(&self.container.status());
        Err(error)
    }

    async fn started(&mut self, run: Run) -> Result<(), StartFailure> {
        let vmm_pid = run.sandbox.vmm().pid();
        let accelerator = self.accelerator().await;
        let recorded = self.record(|status| {
            status.phase = step(status.phase, Trigger::Started);
            status.started_unix_ns = Some(now_unix_ns());
            status.exit_code = 0;
            status.vmm_pid = Some(vmm_pid);
            status.accelerator = accelerator;
        });
        if let Err(error) = recorded.await {
            drop(run.release());
            return Err(error.into());
        }
        let name = accelerator.map_or("unknown", Accelerator::as_str);
        tracing::info!(id = self.container.id.short(), accelerator = name, "microVM runs");
        self.state = State::Running(Box::new(run));
        Ok(())
    }

    async fn accelerator(&self) -> Option<Accelerator> {
        let annotations = self.container.definition.host_config.annotations.as_ref();
        let default = self.context.accelerator;
        let choice = AcceleratorChoice::from_annotations(annotations, default).ok()?;
        Some(choice.resolve(self.context.probe.get().await.ok()?).ok()?.accelerator)
    }

    /// Starts a run, unless a client takes the start back meanwhile.
    async fn boot(&mut self) -> Result<Run, StartFailure> {
        let (container, context) = (Arc::clone(&self.container), Arc::clone(&self.context));
        let starting = Run::start(&context, &container);
        tokio::pin!(starting);
        loop {
            let command = tokio::select! {
                started = &mut starting => return started,
                command = self.commands.recv() => command.expect("the container holds a sender"),
                () = context.stopping.cancelled() => return Err(taken_back(0, "daemon shut down")),
            };
            match command {
                Command::Start { reply } => {
                    let _ = reply.send(Err(self.refusal(Trigger::Start, Refused::AlreadyDone)));
                }
                Command::Kill { signal, reply } if ENDING_SIGNALS.contains(&signal) => {
                    let _ = reply.send(Ok(()));
                    return Err(taken_back(128 + i64::from(signal), "start was interrupted"));
                }
                Command::Remove { force: true, reply } => {
                    self.deferred.push_back(Command::Remove { force: true, reply });
                    return Err(taken_back(137, "container is being removed"));
                }
                Command::Remove { force: false, reply } => {
                    let _ = reply.send(Err(self.refusal(Trigger::Remove, Refused::StillRunning)));
                }
                later => self.deferred.push_back(later),
            }
        }
    }

    async fn kill(&mut self, signal: i32) -> Result<(), ApiError> {
        if let Err(refused) = self.next(Trigger::Kill) {
            return Err(self.refusal(Trigger::Kill, refused));
        }
        let State::Running(run) = &self.state else {
            return Err(self.refusal(Trigger::Kill, Refused::NotRunning));
        };
        let process = self.container.id.to_string();
        let agent = run.sandbox.agent();
        match agent.command(RequestBody::Signal { process, signal, all: false }).await {
            Ok(()) => Ok(()),
            // It has ended, and its end is on the way.
            Err(AgentCallError::Refused(error))
                if matches!(
                    error.kind,
                    AgentErrorKind::NotFound | AgentErrorKind::InvalidState
                ) =>
            {
                Err(self.refusal(Trigger::Kill, Refused::NotRunning))
            }
            // A guest that does not answer cannot keep its container from being killed.
            Err(error) if signal == KILL => {
                tracing::warn!(error = chain(&error), "agent does not kill: killing the microVM");
                run.sandbox.vmm().kill();
                Ok(())
            }
            Err(error) => Err(ApiError::new(
                ErrorCode::Internal,
                format!("cannot kill container: {}: {}", self.container.name, chain(&error)),
            )),
        }
    }

    async fn resize(&mut self, rows: u16, columns: u16) -> Result<(), ApiError> {
        if let Err(refused) = self.next(Trigger::Resize) {
            return Err(self.refusal(Trigger::Resize, refused));
        }
        let State::Running(run) = &self.state else {
            return Err(self.refusal(Trigger::Resize, Refused::NotRunning));
        };
        let process = self.container.id.to_string();
        let agent = run.sandbox.agent();
        agent.command(RequestBody::Resize { process, rows, columns }).await.map_err(|error| {
            let message = format!("cannot resize {}: {}", self.container.name, chain(&error));
            ApiError::new(ErrorCode::Internal, message)
        })
    }

    /// Writes an end down, tells of it, and clears up behind the answer.
    async fn finish(&mut self, end: RunEnd) {
        let State::Running(run) = std::mem::replace(&mut self.state, State::Resting) else {
            return;
        };
        let mut sandbox = run.release();
        let is_lost = matches!(end, RunEnd::Lost(_));
        let error = match &end {
            RunEnd::Exited(_) => String::new(),
            RunEnd::Lost(what) => format!("{what}: {}", sandbox.last_words().await),
        };
        let auto_remove = self.container.definition.auto_remove();
        let accelerator = self.container.status().accelerator;
        let recorded = self.record(|status| {
            apply(status, &end, error);
            if auto_remove {
                status.phase = Phase::Removing;
            }
        });
        let recorded = recorded.await;
        self.log_failure("record an end", recorded);
        self.container.output.close();
        self.container.input.end_run();
        self.container.waiters.exited(&self.container.status());
        if auto_remove {
            self.leave().await;
            self.erase(Some(sandbox)).await;
        } else if is_lost {
            sandbox.destroy().await;
        } else {
            self.keep_statistics(accelerator, &sandbox).await;
            sandbox.shut_down().await;
        }
    }

    /// Writes down what was counted of a microVM that is about to go.
    async fn keep_statistics(&mut self, accelerator: Option<Accelerator>, sandbox: &Sandbox) {
        let (Some(accelerator), Some(statistics)) = (accelerator, sandbox.statistics().await)
        else {
            return;
        };
        let last = report::sandbox(accelerator, &statistics);
        let recorded = self.record(|status| status.last_sandbox = Some(last)).await;
        self.log_failure("record what was counted", recorded);
    }

    /// Removes the container, whatever it does.
    async fn remove(&mut self) {
        let remains = self.forget().await;
        self.erase(remains).await;
    }

    /// Ends the container at once, for all who ask about it; what is left of it is for
    /// [`erase`](Self::erase). A daemon that is killed in between leaves directories without a
    /// record, which the next one sweeps.
    async fn forget(&mut self) -> Option<Sandbox> {
        let was_running = matches!(self.state, State::Running(_));
        let recorded = self.record(|status| {
            status.phase = Phase::Removing;
            if was_running {
                status.exit_code = 128 + i64::from(KILL);
                status.finished_unix_ns = Some(now_unix_ns());
            }
        });
        let recorded = recorded.await;
        self.log_failure("record a removal", recorded);
        let sandbox = match std::mem::replace(&mut self.state, State::Resting) {
            State::Running(run) => Some(run.release()),
            State::Resting | State::Gone => None,
        };
        if let Some(sandbox) = &sandbox {
            sandbox.vmm().kill();
        }
        self.container.output.close();
        self.container.input.end_run();
        self.leave().await;
        sandbox
    }

    /// Takes the container off the books.
    async fn leave(&mut self) {
        let id = &self.container.id;
        if let Err(error) = self.context.store.delete(id).await {
            tracing::error!(error = chain(&error), %id, "failed to forget container");
        }
        self.context.containers.remove(id);
        self.container.waiters.removed(&self.container.status());
        self.state = State::Gone;
        // Those who come late hear that it is gone.
        self.commands.close();
    }

    /// Clears up behind the answer: the end of a microVM and the removal of a disk take a while.
    async fn erase(&mut self, sandbox: Option<Sandbox>) {
        match sandbox {
            Some(sandbox) => sandbox.destroy().await,
            None => RunDir::new(self.context.paths.sandbox(&self.container.id)).clear().await,
        }
        let directory = self.context.paths.container(&self.container.id);
        if let Err(error) = tokio::fs::remove_dir_all(&directory).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // The next daemon finds a directory without a record, and tries again.
            tracing::error!(%error, path = %directory.display(), "failed to remove");
        }
    }

    /// Brings what a former daemon left into order.
    async fn recover(&mut self, action: Action) {
        let id = self.container.id.clone();
        let dir = RunDir::new(self.context.paths.sandbox(&id));
        match action {
            Action::Keep => {}
            Action::Clear => dir.clear().await,
            Action::RollBack { to } => {
                dir.clear().await;
                let rolled_back = self.record(|status| {
                    status.phase = to;
                    status.exit_code = 128;
                    "the daemon ended while it was being started".clone_into(&mut status.error);
                });
                let rolled_back = rolled_back.await;
                self.log_failure("roll back a start", rolled_back);
            }
            Action::Find => match Run::find(&self.context, &self.container).await {
                Ok(run) => self.state = State::Running(Box::new(run)),
                Err(error) => self.lose(&dir, error).await,
            },
            Action::Lose => {
                let pid = self.container.status().vmm_pid.unwrap_or_default();
                let error = format!(
                    "husk-vmm (process {pid}) ended while no daemon ran: {}",
                    dir.last_words()
                );
                self.lose(&dir, error).await;
            }
            Action::Remove => self.remove().await,
        }
    }

    async fn lose(&mut self, dir: &RunDir, error: String) {
        dir.clear().await;
        self.container.output.close();
        let auto_remove = self.container.definition.auto_remove();
        let recorded = self.record(|status| apply(status, &RunEnd::Lost(String::new()), error));
        let recorded = recorded.await;
        self.log_failure("record a loss", recorded);
        if auto_remove {
            self.remove().await;
        }
    }

    fn phase(&self) -> Phase {
        self.container.status.borrow().phase
    }

    fn next(&self, trigger: Trigger) -> Result<Phase, Refused> {
        self.phase().next(trigger)
    }

    /// Changes the status: on disk first, then for all to see.
    async fn record(&self, change: impl FnOnce(&mut Status)) -> Result<(), ApiError> {
        let mut status = self.container.status();
        change(&mut status);
        let stored = self.context.store.update(&self.container.id, status.clone()).await;
        // What has happened has happened, written down or not.
        self.container.status.send_replace(status);
        stored.map_err(|error| {
            let message = format!(
                "failed to record the state of container {}: {}",
                self.container.name,
                chain(&error)
            );
            ApiError::new(ErrorCode::Internal, message)
        })
    }

    fn log_failure(&self, attempt: &str, result: Result<(), ApiError>) {
        if let Err(error) = result {
            tracing::error!(%error, id = %self.container.id, "failed to {attempt}");
        }
    }

    fn refusal(&self, trigger: Trigger, refused: Refused) -> ApiError {
        let (id, name) = (&self.container.id, &self.container.name);
        let message = match (trigger, refused) {
            (_, Refused::AlreadyDone) => {
                return ApiError::new(ErrorCode::NotModified, format!("{name} runs already"));
            }
            (Trigger::Kill, Refused::NotRunning) => {
                format!("cannot kill container: {name}: container {id} is not running")
            }
            (_, Refused::NotRunning) => format!("container {id} is not running"),
            (_, Refused::StillRunning) => format!(
                "cannot remove container \"/{name}\": container is running: \
                 stop the container before removing or force remove"
            ),
            (Trigger::Start, Refused::BeingRemoved) => {
                "container is marked for removal and cannot be started".to_owned()
            }
            (_, Refused::BeingRemoved) => {
                format!("removal of container {id} is already in progress")
            }
            (_, Refused::Impossible) => format!("container {id} is not in a state for this"),
        };
        ApiError::new(ErrorCode::Conflict, message)
    }
}

async fn next(deferred: &mut VecDeque<Command>, commands: &mut mpsc::Receiver<Command>) -> Command {
    match deferred.pop_front() {
        Some(command) => command,
        None => commands.recv().await.expect("the container holds a sender"),
    }
}

fn taken_back(exit_code: i64, why: &str) -> StartFailure {
    StartFailure { error: ApiError::new(ErrorCode::Conflict, why), exit_code }
}

/// Where the table leads, for what the driver itself brings about.
fn step(phase: Phase, trigger: Trigger) -> Phase {
    phase.next(trigger).expect("the driver takes the ways that the table has")
}

/// Writes an end into a status.
fn apply(status: &mut Status, end: &RunEnd, error: String) {
    let now = now_unix_ns();
    status.phase = step(status.phase, Trigger::Ended);
    status.vmm_pid = None;
    status.accelerator = None;
    status.error = error;
    match end {
        RunEnd::Exited(exit) => {
            status.exit_code = exit.code.into();
            status.oom_killed = exit.oom_killed;
            // The guest's clock counts only where it is plausible: it is the guest's word.
            let told = i64::try_from(exit.exited_at_unix_ns).unwrap_or(i64::MAX);
            let plausible = status.started_unix_ns.unwrap_or(i64::MIN)..=now;
            status.finished_unix_ns = Some(if plausible.contains(&told) { told } else { now });
        }
        RunEnd::Lost(_) => {
            status.exit_code = 128 + i64::from(KILL);
            status.finished_unix_ns = Some(now);
        }
    }
}
