//! A sandbox: one microVM and the link to the agent in it.
//!
//! Owns the run directory, the `husk-vmm` process and the connections. Knows nothing of Docker.

mod accelerator;
mod agent_client;
mod cgroup;
mod control;
mod disk;
mod probe;
mod run_dir;
mod sizing;
mod vmm_process;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use husk_image::{Image, ImageError};
use husk_protocol::{IMAGE_DISK, RequestBody, SYSTEM_DISK, WRITABLE_DISK};
use husk_vmm_config::{Accelerator, Disk, FdIndex, Segment, Statistics, VmConfig, Vsock};
use tokio::time::{sleep, timeout};

pub use accelerator::AcceleratorChoice;
pub(crate) use accelerator::{Resolved, kvm_problem};
pub(crate) use agent_client::{AgentCallError, AgentClient};
use cgroup::{Cgroup, CgroupLimits};
pub(crate) use disk::{DiskError, WritableDisks};
pub(crate) use probe::HostProbe;
pub(crate) use run_dir::{DIRECTORY_LENGTH_MAX, RunDir};
pub(crate) use sizing::{memory_mib, vcpus};
pub(crate) use vmm_process::{VmmError, VmmProcess};

use crate::images::ImageSource;
use crate::limits::{BOOT_DEADLINE, SHUTDOWN_DEADLINE, STOP_DEADLINE};
use crate::paths::Paths;
use control::VmmControl;
use vmm_process::{VmmIdentity, hand_over};

/// Why a sandbox could not be booted, or not be found again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// A file or socket of it could not be made or opened.
    #[error("failed to {attempt}")]
    Io {
        /// What was being done.
        attempt: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The image's files could not be opened.
    #[error("{}", .0.report())]
    Image(ImageError),
    /// The writable disk could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The process could not be run.
    #[error(transparent)]
    Vmm(#[from] VmmError),
    /// The microVM ended before the agent answered.
    #[error("microVM did not start: {0}")]
    Ended(String),
    /// The guest hangs.
    #[error("microVM did not start within {BOOT_DEADLINE:?}: {0}")]
    Deadline(String),
    /// The agent does not answer as it should.
    #[error(transparent)]
    Agent(#[from] AgentCallError),
}

/// What a sandbox is made of.
#[derive(Clone, Debug)]
pub(crate) struct SandboxConfig {
    /// Its name in logs and process titles.
    pub(crate) name: String,
    /// What runs it.
    pub(crate) resolved: Resolved,
    /// Virtual CPUs.
    pub(crate) vcpus: u8,
    /// Guest memory in MiB.
    pub(crate) memory_mib: u32,
    /// The image of its container.
    pub(crate) image: Image,
    /// The file of its writable disk.
    pub(crate) writable_disk: std::path::PathBuf,
}

/// A running sandbox; dropping it leaves the microVM running.
#[derive(Debug)]
pub(crate) struct Sandbox {
    dir: RunDir,
    vmm: Arc<VmmProcess>,
    control: VmmControl,
    agent: AgentClient,
}

impl Sandbox {
    /// Boots a microVM in `dir` and waits until its agent answers. If it fails or is dropped,
    /// [`RunDir::clear`] ends what was started.
    pub(crate) async fn boot(
        dir: RunDir,
        config: SandboxConfig,
        paths: &Paths,
        images: &Arc<dyn ImageSource>,
        disks: &Arc<WritableDisks>,
    ) -> Result<Self, SandboxError> {
        let sockets = dir.create()?;
        let files = tokio::task::spawn_blocking({
            let (config, paths) = (config.clone(), paths.clone());
            let (images, disks) = (Arc::clone(images), Arc::clone(disks));
            move || GuestFiles::open(&config, &paths, images.as_ref(), &disks)
        });
        // The process starts while the files are being opened; it waits for its configuration.
        let (vmm, handover) = VmmProcess::spawn(&paths.vmm(), sockets.stderr)?;
        vmm.record(&dir.identity())?;
        let vmm = Arc::new(vmm);
        // Meanwhile it is put where all that it starts will be too.
        let ((), files) = tokio::join!(hold(&dir, &vmm, &config), files);
        let files = files.expect("opening files does not panic")?;

        let (document, fds) =
            assemble(config, files, &dir, sockets.vsock, sockets.control, sockets.report);
        let control = dir.control();
        let sent = tokio::task::spawn_blocking(move || hand_over(handover, &document, &fds));
        if let Err(error) = sent.await.expect("sending does not panic") {
            return Err(cause(error.into(), &vmm, &dir).await);
        }
        let mut control = match VmmControl::connect(&control).await {
            Ok(control) => control,
            Err(error) => return Err(cause(io_error("reach husk-vmm")(error), &vmm, &dir).await),
        };
        tokio::select! {
            ready = sockets.ready.accept() => drop(ready.map_err(io_error("hear from the agent"))?),
            failure = ended(&mut control, &vmm, &dir) => return Err(SandboxError::Ended(failure)),
            () = sleep(BOOT_DEADLINE) => {
                return Err(SandboxError::Deadline(hung(&mut control).await));
            }
        }
        let vsock = dir.vsock();
        let agent = tokio::select! {
            agent = AgentClient::connect(&vsock) => agent?,
            failure = ended(&mut control, &vmm, &dir) => return Err(SandboxError::Ended(failure)),
        };
        Ok(Self { dir, vmm, control, agent })
    }

    /// Finds a sandbox that a former daemon left running.
    pub(crate) async fn find(dir: RunDir) -> Result<Self, SandboxError> {
        let vmm = VmmIdentity::load(&dir.identity())
            .and_then(VmmProcess::find)
            .ok_or_else(|| SandboxError::Ended(dir.last_words()))?;
        let control = VmmControl::connect(&dir.control()).await;
        let control = control.map_err(io_error("reach husk-vmm"))?;
        let agent = AgentClient::connect(&dir.vsock()).await?;
        Ok(Self { dir, vmm: Arc::new(vmm), control, agent })
    }

    /// The process.
    pub(crate) fn vmm(&self) -> &Arc<VmmProcess> {
        &self.vmm
    }

    /// The agent.
    pub(crate) fn agent(&self) -> &AgentClient {
        &self.agent
    }

    /// What was counted so far; `None` if the VMM does not answer at once.
    pub(crate) async fn statistics(&self) -> Option<Statistics> {
        statistics(&self.dir).await
    }

    /// Why the process has ended.
    pub(crate) async fn last_words(&mut self) -> String {
        match timeout(STOP_DEADLINE, self.control.stopped()).await {
            Ok(Some(stopped)) => stopped.describe(),
            Ok(None) | Err(_) => self.dir.last_words(),
        }
    }

    /// Lets the guest sync its disks and power off, and clears up.
    pub(crate) async fn shut_down(self) {
        // Its answer may be lost on the way; the end of the process is what counts.
        let asked = timeout(SHUTDOWN_DEADLINE, self.agent.call(RequestBody::Shutdown)).await;
        if matches!(asked, Ok(Ok(_))) {
            let _ = timeout(STOP_DEADLINE, self.vmm.ended()).await;
        }
        self.destroy().await;
    }

    /// Ends the microVM at once, and clears up.
    pub(crate) async fn destroy(self) {
        self.dir.clear().await;
    }
}

/// Puts a VMM into its cgroup, before it does anything: all that it starts will be there too.
async fn hold(dir: &RunDir, vmm: &VmmProcess, config: &SandboxConfig) {
    let limits = CgroupLimits::new(config.resolved.accelerator, config.vcpus, config.memory_mib);
    let (path, pid) = (dir.path().to_owned(), vmm.pid());
    let held = tokio::task::spawn_blocking(move || Cgroup::of(&path).hold(pid, limits));
    if let Err(error) = held.await.expect("a cgroup does not panic") {
        tracing::warn!(%error, pid, "failed to limit husk-vmm by a cgroup");
    }
}

/// What was counted of the microVM in `dir`; `None` if it does not answer at once.
pub(crate) async fn statistics(dir: &RunDir) -> Option<Statistics> {
    let asked = async {
        let mut control = VmmControl::connect(&dir.control()).await.ok()?;
        control.statistics().await.ok()?
    };
    timeout(STOP_DEADLINE, asked).await.ok()?
}

/// What lies behind `error`: a VMM that ended at once cannot be reached, and says why elsewhere.
async fn cause(error: SandboxError, vmm: &VmmProcess, dir: &RunDir) -> SandboxError {
    match timeout(STOP_DEADLINE, vmm.ended()).await {
        Ok(()) => SandboxError::Ended(dir.last_words()),
        Err(_) => error,
    }
}

/// Waits for the end of a VMM that should not end, and says why it did.
async fn ended(control: &mut VmmControl, vmm: &VmmProcess, dir: &RunDir) -> String {
    if let Some(stopped) = control.stopped().await {
        return stopped.describe();
    }
    vmm.ended().await;
    dir.last_words()
}

/// The last words of a guest that hangs.
async fn hung(control: &mut VmmControl) -> String {
    let asked = async {
        control.stop().await.ok()?;
        control.stopped().await
    };
    let console = timeout(STOP_DEADLINE, asked).await.ok().flatten().map(|stopped| stopped.console);
    let console = console.unwrap_or_default();
    let lines: Vec<_> = console.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        "its agent did not call back, and its console is empty".to_owned()
    } else {
        format!("last console lines: {}", lines[lines.len().saturating_sub(5)..].join(" | "))
    }
}

/// The files that a guest is made of.
struct GuestFiles {
    kernel: File,
    system: File,
    parts: Vec<(File, u64)>,
    writable: File,
    /// The device of the kvm accelerator.
    kvm: Option<File>,
}

impl GuestFiles {
    fn open(
        config: &SandboxConfig,
        paths: &Paths,
        images: &dyn ImageSource,
        disks: &WritableDisks,
    ) -> Result<Self, SandboxError> {
        let open = |path: &Path| {
            File::open(path).map_err(io_error(format!(
                "open {}: is husk installed completely?",
                path.display()
            )))
        };
        let kernel = open(&paths.kernel())?;
        drop(open(&paths.agent())?);
        let system =
            images.system_image("husk-agent", &paths.agent()).map_err(SandboxError::Image)?;
        let rootfs = images.rootfs(&config.image).map_err(SandboxError::Image)?;
        Ok(Self {
            kernel,
            system: open(&system)?,
            parts: rootfs.parts.into_iter().map(|part| (part.file, part.bytes)).collect(),
            writable: disks.open(&config.writable_disk)?,
            kvm: match config.resolved.accelerator {
                Accelerator::Kvm => Some(open_kvm(Path::new(KVM))?),
                Accelerator::Software => None,
            },
        })
    }
}

/// The device of the kvm accelerator.
const KVM: &str = "/dev/kvm";

/// Opens the device, or tells what to do about it. `husk-vmm` gets it open: its jail has none.
fn open_kvm(path: &Path) -> Result<File, SandboxError> {
    File::options().read(true).write(true).open(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                ": enable virtualisation in the firmware and load kvm_intel or kvm_amd, or choose \
                 the software accelerator"
            }
            io::ErrorKind::PermissionDenied => ": add the user to group kvm",
            _ => "",
        };
        io_error(format!("open {}{remedy}", path.display()))(error)
    })
}

/// Puts the document together, and the descriptors that it counts.
fn assemble(
    config: SandboxConfig,
    files: GuestFiles,
    dir: &RunDir,
    vsock: OwnedFd,
    control: OwnedFd,
    report: OwnedFd,
) -> (VmConfig, Vec<OwnedFd>) {
    let mut fds = Vec::new();
    let mut add = |fd: OwnedFd| {
        fds.push(fd);
        FdIndex(u32::try_from(fds.len() - 1).expect("there are few"))
    };
    let whole = |file: &File| file.metadata().map_or(0, |metadata| metadata.len() & !511);
    let disk = |serial: &str, segments: Vec<Segment>, read_only| Disk {
        serial: serial.to_owned(),
        segments,
        read_only,
        rate_limit: None,
    };
    let system_length = whole(&files.system);
    let writable_length = whole(&files.writable);
    let system = Segment { fd: add(files.system.into()), length: system_length };
    let image = files
        .parts
        .into_iter()
        .map(|(file, length)| Segment { fd: add(file.into()), length })
        .collect();
    let writable = Segment { fd: add(files.writable.into()), length: writable_length };
    let document = VmConfig {
        id: config.name,
        accelerator: config.resolved.accelerator,
        vcpus: config.vcpus,
        memory_mib: config.memory_mib,
        kernel: add(files.kernel.into()),
        cmdline: Vec::new(),
        // The system disk first: husk-vmm makes the first disk the guest's root.
        disks: vec![
            disk(SYSTEM_DISK, vec![system], true),
            disk(IMAGE_DISK, image, true),
            disk(WRITABLE_DISK, vec![writable], false),
        ],
        vsock: Vsock {
            guest_cid: GUEST_CID,
            listener: add(vsock),
            directory: dir.path().to_owned(),
        },
        control: add(control),
        report: add(report),
        emulator: match config.resolved.accelerator {
            Accelerator::Software => config.resolved.emulator,
            Accelerator::Kvm => None,
        },
        kvm: files.kvm.map(|kvm| add(kvm.into())),
        nets: Vec::new(),
        pmems: Vec::new(),
        balloon: None,
    };
    (document, fds)
}

/// The lowest context ID that a guest may have. Every microVM has a vsock of its own, so all have
/// the same.
const GUEST_CID: u32 = 3;

fn io_error(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> SandboxError {
    let attempt = attempt.into();
    move |source| SandboxError::Io { attempt, source }
}
