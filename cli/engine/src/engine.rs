//! The façade: everything the daemon can ask.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use husk_api::models::{
    ContainerCreateResponse, ContainerSummary, ContainerWaitResponse, ImageInspect, ImageSummary,
    SystemInfo, SystemVersion,
};
use husk_api::{ApiError, ContainerInspect, ErrorCode};
use husk_image::{Image, Platform, Settings, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::now_unix_ns;
use crate::container::driver::{Command, Driver};
use crate::container::filter::Filter;
use crate::container::transition::Phase;
use crate::container::{
    Container, ContainerIndex, definition, name, report, validate, wait_response,
};
use crate::context::Context;
use crate::data_root::lock;
use crate::id::ContainerId;
use crate::images::ImageSource;
use crate::paths::Paths;
use crate::recovery::{self, Action};
use crate::request::{
    Attachment, CreateRequest, LogQuery, OutputChunk, PullProgress, WaitCondition,
};
use crate::sandbox::{AcceleratorChoice, HostProbe, RunDir, WritableDisks, statistics};
use crate::store::{Record, StateStore, Status, StoreError};
use crate::{info, pull};

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Durable state: images, containers, logs, disks.
    pub data_root: PathBuf,
    /// Sockets and other things that live as long as the machine is up.
    pub exec_root: PathBuf,
    /// The directory with `husk-vmm`, `husk-agent` and `vmlinux`.
    pub libexec: PathBuf,
    /// Base addresses asked before the default registry (`http://127.0.0.1:5000`).
    pub registry_mirrors: Vec<String>,
    /// Registries (`host:port` or CIDR) spoken to without TLS verification, or in plain HTTP.
    pub insecure_registries: Vec<String>,
    /// For containers that ask for none.
    pub accelerator: AcceleratorChoice,
}

/// The engine; cheap to clone, shared by all requests.
#[derive(Clone, Debug)]
pub struct Engine {
    context: Arc<Context>,
    /// Held as long as the engine is: one daemon per data root.
    _lock: Arc<File>,
}

impl Engine {
    /// Opens the state, finds what a former daemon left running, and undoes what it left half done.
    ///
    /// # Errors
    /// If another daemon holds the data root, or the state cannot be read.
    pub async fn open(config: EngineConfig) -> Result<Self, ApiError> {
        let lock = lock(&config)?;
        let images = Paths::new(&config).images();
        let settings = Settings {
            registry_mirrors: config.registry_mirrors.clone(),
            insecure_registries: config.insecure_registries.clone(),
        };
        let store = spawn_blocking(move || Store::open(&images, settings)).await;
        let store = store.expect("opening the image store does not panic");
        let store = store.map_err(|error| pull::api_error(&error))?;
        Self::recover(config, Arc::new(store), lock).await
    }

    /// Opens an engine whose images come from elsewhere.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        config: EngineConfig,
        images: Arc<dyn ImageSource>,
    ) -> Result<Self, ApiError> {
        let lock = lock(&config)?;
        Self::recover(config, images, lock).await
    }

    async fn recover(
        config: EngineConfig,
        images: Arc<dyn ImageSource>,
        lock: File,
    ) -> Result<Self, ApiError> {
        let paths = Paths::new(&config);
        let state = paths.state();
        let store = spawn_blocking(move || StateStore::open(&state)).await;
        let store = store.expect("opening the state does not panic").map_err(unreadable)?;
        let records = store.load().await.map_err(unreadable)?;
        recovery::sweep(&paths, &records).await;
        let context = Arc::new(Context {
            probe: HostProbe::new(&paths),
            accelerator: config.accelerator,
            disks: Arc::new(WritableDisks::new(paths.cache())),
            paths,
            store,
            images,
            containers: ContainerIndex::default(),
            host_cpus: thread::available_parallelism().map_or(1, usize::from),
            stopping: CancellationToken::new(),
            drivers: TaskTracker::new(),
        });
        let mut recovering = Vec::new();
        for record in records {
            let status = &record.status;
            let found = recovery::look(&RunDir::new(context.paths.sandbox(&record.id)));
            let action = recovery::plan(
                status.phase,
                status.ran_before(),
                record.definition.auto_remove(),
                found,
            );
            recovering.push(drive(&context, record, action).1);
        }
        for recovered in recovering {
            // A container that was removed says so by hanging up.
            let _ = recovered.await;
        }
        prepare(&context);
        Ok(Self { context, _lock: Arc::new(lock) })
    }

    /// Pulls an image (`fromImage`, `tag`, `platform`, decoded `X-Registry-Auth` user and password).
    ///
    /// # Errors
    /// Only if the request itself is malformed; later failures are the last progress line.
    #[expect(clippy::unused_async, reason = "its callers are written against an async interface")]
    pub async fn pull(
        &self,
        reference: String,
        platform: Option<String>,
        auth: Option<(String, String)>,
    ) -> Result<PullProgress, ApiError> {
        let images = Arc::clone(&self.context.images);
        pull::start(images, &reference, platform.as_deref(), auth)
    }

    /// Lists images.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn images(&self) -> Result<Vec<ImageSummary>, ApiError> {
        let containers = self.context.containers.all();
        let made_from = |image: &Image| {
            let id = image.id.to_string();
            containers.iter().filter(|container| container.definition.image_id == id).count()
        };
        let images = self.with_images(|images| images.list()).await?;
        Ok(images.iter().map(|image| info::image_summary(image, made_from(image))).collect())
    }

    /// Tells all about one image.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn image_inspect(&self, name_or_id: &str) -> Result<ImageInspect, ApiError> {
        Ok(info::image_inspect(&self.image(name_or_id).await?))
    }

    /// Creates a container.
    ///
    /// # Errors
    /// `NotFound` without the image (`No such image: …`), `Conflict` for a used name, and so on.
    pub async fn create(
        &self,
        request: CreateRequest,
    ) -> Result<ContainerCreateResponse, ApiError> {
        let CreateRequest { name, platform, body } = request;
        self.check_accepting()?;
        let name = name.map(|name| name.strip_prefix('/').unwrap_or(&name).to_owned());
        if let Some(name) = name.as_ref().filter(|name| !name::is_valid(name)) {
            return Err(ApiError::new(
                ErrorCode::InvalidArgument,
                format!(
                    "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
                ),
            ));
        }
        validate::validate(&body, self.context.host_cpus)?;
        let Some(image_name) = body.image.as_deref().filter(|image| !image.is_empty()) else {
            return Err(ApiError::new(ErrorCode::InvalidArgument, "no image specified"));
        };
        let image = self.image(image_name).await?;
        check_platform(image_name, &image, platform.as_deref())?;
        let id = ContainerId::random();
        let definition = definition::merge(&id, &image, &body)?;
        let warnings = self.warnings(&definition.host_config).await;

        // The name is checked and taken in one step.
        let _naming = self.context.containers.naming.lock().await;
        let name = self.choose_name(name)?;
        let record = Record {
            id: id.clone(),
            name,
            created_unix_ns: now_unix_ns(),
            definition,
            status: Status::created(),
        };
        self.context.store.insert(record.clone()).await.map_err(|error| match error {
            StoreError::NameInUse(name) => name_in_use(&name, "unknown"),
            other => internal("failed to record the container", &other),
        })?;
        drive(&self.context, record, Action::Keep);
        Ok(ContainerCreateResponse { id: id.to_string(), warnings })
    }

    /// Starts a container and answers once its program has been executed.
    ///
    /// # Errors
    /// `NotModified` if it runs, `NotFound`, or why it did not start.
    pub async fn start(&self, id: &str) -> Result<(), ApiError> {
        self.check_accepting()?;
        self.find(id)?.ask(|reply| Command::Start { reply }).await
    }

    /// Attaches to a container, also before it starts. With `logs`, what was written before comes
    /// first; with `stream`, what is written from now on follows.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` in a state that does not allow it.
    #[expect(clippy::unused_async, reason = "its callers are written against an async interface")]
    pub async fn attach(
        &self,
        id: &str,
        stdin: bool,
        logs: bool,
        stream: bool,
    ) -> Result<Attachment, ApiError> {
        let container = self.find(id)?;
        if container.status().phase == Phase::Removing {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!(
                    "container {} is being removed: there is nothing to attach to",
                    container.id
                ),
            ));
        }
        let output = container.output.attach(logs, stream)?;
        let wants_input = stdin && stream && container.definition.open_stdin();
        Ok(Attachment {
            tty: container.definition.tty(),
            output,
            input: wants_input.then(|| container.input.attach()),
        })
    }

    /// Waits; the outer future ends as soon as the waiting is registered, the inner one at the end.
    ///
    /// # Errors
    /// `NotFound`.
    #[expect(clippy::unused_async, reason = "its callers are written against an async interface")]
    pub async fn wait(
        &self,
        id: &str,
        condition: WaitCondition,
    ) -> Result<oneshot::Receiver<ContainerWaitResponse>, ApiError> {
        let container = self.find(id)?;
        Ok(match condition {
            WaitCondition::Removed => container.waiters.for_removal(),
            WaitCondition::NextExit => container.waiters.for_exit(),
            WaitCondition::NotRunning => {
                // Registered first: an end in between is not missed.
                let exit = container.waiters.for_exit();
                let status = container.status();
                if matches!(status.phase, Phase::Starting | Phase::Running) {
                    exit
                } else {
                    let (sender, receiver) = oneshot::channel();
                    let _ = sender.send(wait_response(&status));
                    receiver
                }
            }
        })
    }

    /// Sends a signal to the container's process.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if it does not run.
    pub async fn kill(&self, id: &str, signal: i32) -> Result<(), ApiError> {
        self.find(id)?.ask(|reply| Command::Kill { signal, reply }).await
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if it does not run.
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<(), ApiError> {
        self.find(id)?.ask(|reply| Command::Resize { rows, columns, reply }).await
    }

    /// Reads a container's log; also tells whether it has a terminal.
    ///
    /// # Errors
    /// `NotFound`.
    #[expect(clippy::unused_async, reason = "its callers are written against an async interface")]
    pub async fn logs(
        &self,
        id: &str,
        query: LogQuery,
    ) -> Result<(bool, mpsc::Receiver<OutputChunk>), ApiError> {
        let container = self.find(id)?;
        Ok((container.definition.tty(), container.output.read(query)))
    }

    /// Lists containers; `all` includes those that do not run. Filters as the Engine API's.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown filter.
    pub async fn list(
        &self,
        all: bool,
        limit: Option<usize>,
        filters: &HashMap<String, Vec<String>>,
    ) -> Result<Vec<ContainerSummary>, ApiError> {
        let mut ancestors = HashMap::new();
        for image in filters.get("ancestor").into_iter().flatten() {
            if let Ok(found) = self.image(image).await {
                ancestors.insert(image.clone(), found.id.to_string());
            }
        }
        let index = &self.context.containers;
        // A limit counts all containers, as in Docker.
        let all = all || limit.is_some_and(|limit| limit > 0);
        let filter = Filter::parse(all, filters, index, |image| ancestors.get(image).cloned())?;
        let mut containers = index.all();
        containers.retain(|container| filter.accepts(container));
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_unix_ns));
        containers.truncate(limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX));
        Ok(containers.iter().map(|container| report::summary(container)).collect())
    }

    /// Tells all about one container.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn inspect(&self, id: &str) -> Result<ContainerInspect, ApiError> {
        let (container, paths) = (self.find(id)?, &self.context.paths);
        let status = container.status();
        let sandbox = match status.accelerator {
            Some(accelerator) => {
                let statistics = statistics(&RunDir::new(paths.sandbox(&container.id))).await;
                Some(report::sandbox(accelerator, &statistics.unwrap_or_default()))
            }
            None => status.last_sandbox,
        };
        Ok(ContainerInspect { docker: report::inspect(&container, paths), sandbox })
    }

    /// Removes a container; `force` kills it first.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if it runs and `force` is not set.
    pub async fn remove(&self, id: &str, force: bool) -> Result<(), ApiError> {
        self.find(id)?.ask(|reply| Command::Remove { force, reply }).await
    }

    /// Tells about the engine and the host.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub async fn info(&self) -> Result<SystemInfo, ApiError> {
        let images = self.with_images(|images| images.list()).await?.len();
        let probe = self.context.probe.get().await;
        Ok(info::system(&self.context, images, probe.ok()))
    }

    /// Tells versions.
    #[must_use]
    pub fn version(&self) -> SystemVersion {
        info::version()
    }

    /// Stops accepting work; running microVMs stay.
    pub async fn shutdown(&self) {
        self.context.stopping.cancel();
        self.context.drivers.close();
        self.context.drivers.wait().await;
    }

    fn find(&self, id: &str) -> Result<Arc<Container>, ApiError> {
        self.context.containers.find(id)
    }

    fn check_accepting(&self) -> Result<(), ApiError> {
        if self.context.stopping.is_cancelled() {
            return Err(ApiError::new(ErrorCode::Unavailable, "the daemon is shutting down"));
        }
        Ok(())
    }

    async fn image(&self, name_or_id: &str) -> Result<Image, ApiError> {
        let name_or_id = name_or_id.to_owned();
        self.with_images(move |images| images.find(&name_or_id)).await
    }

    async fn with_images<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn ImageSource) -> Result<T, husk_image::ImageError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let images = Arc::clone(&self.context.images);
        let result = spawn_blocking(move || read(images.as_ref())).await;
        result.expect("reading images does not panic").map_err(|error| pull::api_error(&error))
    }

    /// One line if the container gets another accelerator than it would rather have. What fails
    /// here fails at the start, where it is told.
    async fn warnings(&self, host: &husk_api::models::HostConfig) -> Vec<String> {
        let default = self.context.accelerator;
        let choice = AcceleratorChoice::from_annotations(host.annotations.as_ref(), default);
        let (Ok(choice), Ok(probe)) = (choice, self.context.probe.get().await) else {
            return Vec::new();
        };
        choice.resolve(probe).ok().and_then(|resolved| resolved.warning).into_iter().collect()
    }

    fn choose_name(&self, asked: Option<String>) -> Result<String, ApiError> {
        if let Some(name) = asked {
            return match self.context.containers.named(&name) {
                Some(holder) => Err(name_in_use(&name, holder.id.as_str())),
                None => Ok(name),
            };
        }
        (0..)
            .map(name::generate)
            .find(|name| self.context.containers.named(name).is_none())
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "no container name is left"))
    }
}

/// Makes ready in the background what the first container would wait for.
fn prepare(context: &Arc<Context>) {
    let disks = Arc::clone(&context.disks);
    drop(spawn_blocking(move || {
        if let Err(error) = disks.template() {
            tracing::warn!(%error, "failed to prepare writable disks");
        }
    }));
    let context = Arc::clone(context);
    tokio::spawn(async move {
        if let Err(error) = context.probe.get().await {
            tracing::warn!(%error, "failed to probe this host");
        }
    });
}

/// Adds a container and starts its driver.
fn drive(
    context: &Arc<Context>,
    record: Record,
    action: Action,
) -> (Arc<Container>, oneshot::Receiver<()>) {
    let (container, commands) = Container::new(record, &context.paths);
    context.containers.insert(Arc::clone(&container));
    let recovered = Driver::spawn(Arc::clone(&container), Arc::clone(context), commands, action);
    (container, recovered)
}

/// Refuses an image that is not what was asked for, or that this host cannot run.
fn check_platform(name: &str, image: &Image, asked: Option<&str>) -> Result<(), ApiError> {
    let host = Platform::host();
    let asked = match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) => asked
            .parse()
            .map_err(|error| ApiError::new(ErrorCode::InvalidArgument, format!("{error}")))?,
        None => image.platform.clone(),
    };
    if !asked.accepts(&image.platform) {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            format!(
                "image with reference {name} was found but does not provide the specified \
                 platform ({asked}): No such image: {name}"
            ),
        ));
    }
    if image.platform.os != host.os || image.platform.architecture != host.architecture {
        return Err(ApiError::new(
            ErrorCode::Unsupported,
            format!(
                "image {name} is for {}, and this host runs {host}: pull it for {host}",
                image.platform
            ),
        ));
    }
    Ok(())
}

fn name_in_use(name: &str, holder: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
             You have to remove (or rename) that container to be able to reuse that name."
        ),
    )
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for map_err")]
fn unreadable(error: StoreError) -> ApiError {
    internal("failed to read the state", &error)
}

fn internal(attempt: &str, error: &StoreError) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("{attempt}: {}", crate::chain::chain(error)))
}
