//! Receiving the configuration: the VMM's side of `husk_vmm_config::handover`.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use husk_vmm_config::handover::{HEADER_LENGTH, Header, HeaderError, batch_length};
use husk_vmm_config::{ConfigError, VmConfig};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::sys::receive_fds;

/// How long the engine may pause between two pieces.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Why no configuration arrived.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    /// The stream broke off.
    #[error("failed to receive the configuration's {part}")]
    Receive {
        /// Which part was due.
        part: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The header is none.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The document is not what it should be.
    #[error("failed to read the configuration")]
    Document(#[from] serde_json::Error),
    /// A batch is not as long as agreed.
    #[error("a batch of {found} descriptors came where {expected} were due")]
    Batch {
        /// Descriptors due.
        expected: usize,
        /// Descriptors that came.
        found: usize,
    },
    /// It contradicts itself.
    #[error("failed to accept the configuration")]
    Config(#[from] ConfigError),
}

/// Receives a configuration and its descriptors, and checks them.
pub(crate) fn receive(mut socket: UnixStream) -> Result<(VmConfig, Vec<OwnedFd>), HandoverError> {
    let failed = |part| move |source| HandoverError::Receive { part, source };
    set_socket_timeout(&socket, Timeout::Recv, Some(PAUSE_MAX))
        .map_err(|error| failed("socket")(error.into()))?;
    let mut header = [0; HEADER_LENGTH];
    socket.read_exact(&mut header).map_err(failed("header"))?;
    let header = Header::decode(header)?;
    let mut document = vec![0; header.document_length];
    socket.read_exact(&mut document).map_err(failed("document"))?;
    let mut fds = Vec::with_capacity(header.fd_count);
    for _ in 0..header.batch_count() {
        let batch = receive_fds(socket.as_fd()).map_err(failed("descriptors"))?;
        let expected = batch_length(header.fd_count, fds.len());
        if batch.len() != expected {
            return Err(HandoverError::Batch { expected, found: batch.len() });
        }
        fds.extend(batch);
    }
    let config: VmConfig = serde_json::from_slice(&document)?;
    config.validate(fds.len())?;
    Ok((config, fds))
}
