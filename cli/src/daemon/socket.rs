//! The daemon's socket file: one daemon each, a dead one's file replaced, ours removed at the end.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use tokio::net::UnixListener;

/// Owner and group may connect: whoever may, is as good as root on this host.
const SOCKET_MODE: u32 = 0o660;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// A step failed.
    #[error("failed to {attempt} {path}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another daemon serves this socket.
    #[error("another husk daemon serves {0}: stop it first, or choose another --host")]
    InUse(PathBuf),
}

/// The right to serve a socket path; the kernel takes it back when the process dies.
#[derive(Debug)]
pub(super) struct SocketLock {
    path: PathBuf,
    lock: File,
}

impl SocketLock {
    /// Takes the lock beside the socket.
    pub(super) fn acquire(path: &Path) -> Result<Self, SocketError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(failed("create directory", directory))?;
        let lock_path = path.with_added_extension("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open lock file", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(SocketError::InUse(path.to_owned())),
            Err(error) => Err(failed("lock", &lock_path)(error.into())),
        }
    }

    /// Listens; a socket file that is there was left by a daemon that was killed.
    pub(super) fn listen(self) -> Result<Socket, SocketError> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove stale socket", &self.path)(error)),
        }
        let listener = UnixListener::bind(&self.path).map_err(failed("listen on", &self.path))?;
        let socket = Socket { path: self.path, listener, _lock: self.lock };
        std::fs::set_permissions(&socket.path, Permissions::from_mode(SOCKET_MODE))
            .map_err(failed("set the mode of", &socket.path))?;
        Ok(socket)
    }
}

/// A listening socket; dropping it removes the file, then frees the lock.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    listener: UnixListener,
    _lock: File,
}

impl Socket {
    /// What to accept from.
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "failed to remove the socket");
        }
    }
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError + use<> {
    let path = path.to_owned();
    move |source| SocketError::Io { attempt, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_removed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/husk.sock");
        std::fs::create_dir(directory.path().join("run")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the stale file is there");
        let socket = SocketLock::acquire(&path).unwrap().listen().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, SOCKET_MODE);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("husk.sock");
        let _first = SocketLock::acquire(&path).unwrap();
        assert!(matches!(SocketLock::acquire(&path), Err(SocketError::InUse(_))));
    }
}
