//! What all parts of one engine share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::container::ContainerIndex;
use crate::images::ImageSource;
use crate::paths::Paths;
use crate::sandbox::{AcceleratorChoice, HostProbe, WritableDisks};
use crate::store::StateStore;

/// What all parts of one engine share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) paths: Paths,
    pub(crate) store: StateStore,
    pub(crate) images: Arc<dyn ImageSource>,
    pub(crate) disks: Arc<WritableDisks>,
    pub(crate) probe: HostProbe,
    /// For containers that ask for none.
    pub(crate) accelerator: AcceleratorChoice,
    pub(crate) containers: ContainerIndex,
    /// CPUs of this host.
    pub(crate) host_cpus: usize,
    /// Fires when the engine stops accepting work.
    pub(crate) stopping: CancellationToken,
    /// The drivers.
    pub(crate) drivers: TaskTracker,
}
