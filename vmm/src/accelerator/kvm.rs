//! Hardware virtualisation through `/dev/kvm`: refused in this version.

use super::{Accelerator, AcceleratorError, Guest, Machine};
use crate::poll::Poll;

/// The accelerator that is to come.
#[derive(Debug)]
pub(crate) struct Kvm;

impl Accelerator for Kvm {
    fn start(&self, _machine: Machine, _poll: &Poll) -> Result<Box<dyn Guest>, AcceleratorError> {
        Err(AcceleratorError::NoKvm)
    }
}
