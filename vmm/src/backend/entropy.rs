//! The host's random bytes for the guest.

use std::io;

use husk_devices::virtio::rng::Backend;

use crate::sys::random_bytes;

/// The host kernel's generator.
#[derive(Debug)]
pub(crate) struct HostEntropy;

impl Backend for HostEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        random_bytes(bytes)
    }
}
