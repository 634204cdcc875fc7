//! The directories of an engine: made, kept private, and taken for one daemon.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use husk_api::{ApiError, ErrorCode};
use rustix::fs::{FlockOperation, flock};

use crate::engine::EngineConfig;
use crate::id::ContainerId;
use crate::paths::Paths;
use crate::sandbox::DIRECTORY_LENGTH_MAX;

/// How long another holder may take to go: a child of a daemon that was killed, which keeps what
/// its parent held until it executes its program.
const HOLDER_DEADLINE: Duration = Duration::from_millis(500);

/// Locks the file, if nobody holds it.
fn taken(file: &File) -> bool {
    let deadline = Instant::now() + HOLDER_DEADLINE;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return true,
            Err(_) if Instant::now() >= deadline => return false,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Makes the directories and takes the data root for this process.
pub(crate) fn lock(config: &EngineConfig) -> Result<File, ApiError> {
    let paths = Paths::new(config);
    let unusable = |error: std::io::Error| {
        ApiError::new(
            ErrorCode::Unavailable,
            format!(
                "failed to use {} and {}: {error}",
                paths.data_root().display(),
                paths.exec_root().display()
            ),
        )
    };
    let longest = paths.sandboxes().as_os_str().len() + 1 + ContainerId::SHORT;
    if !paths.exec_root().is_absolute() || longest > DIRECTORY_LENGTH_MAX {
        let room = DIRECTORY_LENGTH_MAX - (longest - paths.exec_root().as_os_str().len());
        return Err(ApiError::new(
            ErrorCode::InvalidArgument,
            format!(
                "exec root {} must be an absolute path of at most {room} bytes: \
                 unix sockets with longer names cannot be made in it",
                paths.exec_root().display()
            ),
        ));
    }
    for dir in [paths.containers(), paths.cache(), paths.sandboxes()] {
        fs::create_dir_all(dir).map_err(unusable)?;
    }
    // Names of images, logs and sockets are for the daemon's user alone.
    for dir in [paths.data_root(), paths.exec_root()] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(paths.lock())
        .map_err(unusable)?;
    if !taken(&file) {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        return Err(ApiError::new(
            ErrorCode::Conflict,
            format!(
                "another husk daemon (pid {}) already uses {}",
                pid.trim(),
                paths.data_root().display()
            ),
        ));
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
    Ok(file)
}
