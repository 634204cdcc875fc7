//! What a container's driver holds in each state.

use super::run::Run;

/// The driver's side of [`Phase`](super::transition::Phase): each state owns its resources.
#[derive(Debug)]
pub(super) enum State {
    /// Created or exited: nothing but what is on disk.
    Resting,
    /// Running: the microVM and all that is connected to it.
    Running(Box<Run>),
    /// Removed; the driver ends.
    Gone,
}
