//! The directory of a running sandbox: its sockets, the identity of its `husk-vmm`, its report.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use husk_protocol::READY_PORT;
use husk_vmm_config::{JAIL_GID, JAIL_UID};
use rustix::process::geteuid;
use tokio::net::UnixListener;
use tokio::time::timeout;

use super::cgroup::Cgroup;
use super::control::{Stopped, VmmControl};
use super::vmm_process::{VmmIdentity, VmmProcess, stderr_tail};
use super::{SandboxError, io_error};
use crate::limits::STOP_DEADLINE;

/// The longest path of a run directory: the sockets in it have names of up to 23 bytes, and a
/// unix socket's address 108.
pub(crate) const DIRECTORY_LENGTH_MAX: usize = 84;

/// A run directory, there or not.
#[derive(Clone, Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
}

/// What [`RunDir::create`] opened.
pub(crate) struct RunSockets {
    pub(crate) vsock: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) report: OwnedFd,
    pub(crate) stderr: File,
    pub(crate) ready: UnixListener,
}

impl RunDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the `husk-vmm`.
    pub(crate) fn identity(&self) -> PathBuf {
        self.path.join("vmm.json")
    }

    /// The socket for commands and events.
    pub(crate) fn control(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// The socket that leads to the guest's ports.
    pub(crate) fn vsock(&self) -> PathBuf {
        self.path.join("vsock.sock")
    }

    fn ready(&self) -> PathBuf {
        self.path.join(format!("guest-{READY_PORT}.sock"))
    }

    fn report(&self) -> PathBuf {
        self.path.join("report")
    }

    fn stderr(&self) -> PathBuf {
        self.path.join("stderr")
    }

    /// Makes the directory, for its owner and the jail alone, and opens what is in it.
    pub(crate) fn create(&self) -> Result<RunSockets, SandboxError> {
        let create = || {
            DirBuilder::new().mode(0o700).create(&self.path)?;
            let sockets = RunSockets {
                vsock: StdUnixListener::bind(self.vsock())?.into(),
                control: StdUnixListener::bind(self.control())?.into(),
                report: File::create(self.report())?.into(),
                stderr: File::create(self.stderr())?,
                ready: UnixListener::bind(self.ready())?,
            };
            self.admit_jail()?;
            Ok(sockets)
        };
        create().map_err(io_error(format!("create {}", self.path.display())))
    }

    /// Lets a `husk-vmm` that has given root up reach the one socket that it opens by path.
    fn admit_jail(&self) -> io::Result<()> {
        if !geteuid().is_root() {
            return Ok(());
        }
        chown(&self.path, None, Some(JAIL_GID))?;
        fs::set_permissions(&self.path, Permissions::from_mode(0o710))?;
        chown(self.ready(), Some(JAIL_UID), Some(JAIL_GID))
    }

    /// Whether a `husk-vmm` runs for it.
    pub(crate) fn is_alive(&self) -> bool {
        VmmIdentity::load(&self.identity()).and_then(VmmProcess::find).is_some()
    }

    /// Why its `husk-vmm` has ended, as far as it left word.
    pub(crate) fn last_words(&self) -> String {
        Stopped::load(&self.report())
            .map(|stopped| stopped.describe())
            .or_else(|| stderr_tail(&self.stderr()))
            .unwrap_or_else(|| "husk-vmm was killed".to_owned())
    }

    /// Waits until nothing writes to a disk any more: the process that is known may have been killed
    /// a moment before the one inside its jail, which alone has the control socket.
    async fn wait_until_closed(&self) {
        let closed = async {
            let Ok(mut control) = VmmControl::connect(&self.control()).await else { return };
            while matches!(control.event().await, Ok(Some(_))) {}
        };
        if timeout(STOP_DEADLINE, closed).await.is_err() {
            tracing::error!(path = %self.path.display(), "husk-vmm has ended, but not its jail");
        }
    }

    /// Ends the `husk-vmm`, if one runs, and removes the directory. Answers once both are gone.
    pub(crate) async fn clear(&self) {
        if let Some(vmm) = VmmIdentity::load(&self.identity()).and_then(VmmProcess::find) {
            let asked = async {
                match VmmControl::connect(&self.control()).await {
                    Ok(mut control) => {
                        if control.stop().await.is_err() {
                            vmm.kill();
                        }
                    }
                    // It has no configuration yet, or hangs.
                    Err(_) => vmm.kill(),
                }
                vmm.ended().await;
            };
            if timeout(STOP_DEADLINE, asked).await.is_err() {
                vmm.kill();
                vmm.ended().await;
            }
        }
        self.wait_until_closed().await;
        let cgroup = Cgroup::of(&self.path);
        let cleared = tokio::task::spawn_blocking(move || cgroup.clear()).await;
        if let Err(error) = cleared.expect("clearing does not panic") {
            tracing::error!(%error, path = %self.path.display(), "failed to remove the cgroup of");
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%error, path = %self.path.display(), "failed to remove");
            }
            _ => {}
        }
    }
}
