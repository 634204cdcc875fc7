//! Containers: what is known of each, and the one task that changes it.

pub(crate) mod definition;
pub(crate) mod driver;
pub(crate) mod filter;
mod index;
mod input;
pub(crate) mod log;
pub(crate) mod name;
mod output;
pub(crate) mod report;
mod run;
pub(crate) mod spec;
mod state;
pub(crate) mod transition;
pub(crate) mod validate;
mod waiters;

use std::sync::Arc;

use husk_api::{ApiError, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use index::ContainerIndex;
pub(crate) use waiters::response as wait_response;

use crate::id::ContainerId;
use crate::limits::DRIVER_QUEUE;
use crate::paths::Paths;
use crate::store::{Definition, Record, Status};
use driver::Command;
use input::InputHub;
use output::OutputHub;
use waiters::Waiters;

/// A container, shared by all who ask about it. Its driver alone changes its status.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) created_unix_ns: i64,
    pub(crate) definition: Definition,
    status: watch::Sender<Status>,
    commands: mpsc::Sender<Command>,
    pub(crate) output: Arc<OutputHub>,
    pub(crate) input: Arc<InputHub>,
    pub(crate) waiters: Waiters,
}

impl Container {
    /// A container as its record has it, and the queue that its driver is to read.
    pub(crate) fn new(record: Record, paths: &Paths) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(DRIVER_QUEUE);
        let container = Self {
            output: OutputHub::new(paths.log(&record.id)),
            input: InputHub::new(record.definition.stdin_once()),
            waiters: Waiters::default(),
            id: record.id,
            name: record.name,
            created_unix_ns: record.created_unix_ns,
            definition: record.definition,
            status: watch::Sender::new(record.status),
            commands,
        };
        (Arc::new(container), queue)
    }

    /// How far it has come.
    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Asks the driver, and waits for its answer.
    pub(crate) async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), ApiError>>) -> Command,
    ) -> Result<(), ApiError> {
        let gone = || {
            ApiError::new(ErrorCode::NotFound, format!("No such container: {}", self.id.short()))
        };
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
