//! Tells the process that started the daemon when the socket answers.
//!
//! One byte on a pipe; a daemon that fails closes the pipe without one. Nobody has to poll.

use std::io::Write as _;

/// The other end of the starter's pipe, if there is one.
#[derive(Debug)]
pub(super) struct Readiness {
    fd: Option<u32>,
}

impl Readiness {
    /// Readiness is announced on the inherited descriptor `fd`.
    pub(super) fn new(fd: Option<u32>) -> Self {
        Self { fd }
    }

    /// Writes the byte; a starter that is gone is no reason to stop.
    pub(super) fn announce(self) {
        let Some(fd) = self.fd else { return };
        // An inherited descriptor is reached by its name: taking it by number would need unsafe.
        let announced = std::fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{fd}"))
            .and_then(|mut pipe| pipe.write_all(b"\n"));
        if let Err(error) = announced {
            tracing::warn!(fd, %error, "failed to announce readiness");
        }
        if fd == 1
            && let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null")
        {
            // The starter's pipe must not stay open in this process or its children.
            let _ = rustix::stdio::dup2_stdout(null);
        }
    }
}
