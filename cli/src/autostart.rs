//! Starts the daemon on first use.
//!
//! A lock file beside the socket lets one of many clients start it while the others wait for the
//! lock; the daemon says on a pipe when it answers, or closes it by dying, so that nobody polls.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::FlockOperation;

/// How much of a failed daemon's log is looked at for its last line.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AutostartError {
    /// It may not be spoken to.
    #[error(
        "permission denied while trying to connect to the Husk daemon at unix://{socket}: \
         run as a user who may write to it"
    )]
    Permission {
        /// Its socket.
        socket: PathBuf,
    },
    /// A step of starting it failed.
    #[error("failed to start the Husk daemon: cannot {attempt} {path}: {reason}")]
    Step {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        reason: io::Error,
    },
    /// It started and gave up.
    #[error("the Husk daemon failed to start: {last_line} (see {log})")]
    Died {
        /// The last line of its log.
        last_line: String,
        /// Its log.
        log: PathBuf,
    },
}

/// Makes sure that a daemon listens on `socket`.
pub(crate) fn ensure(socket: &Path) -> Result<(), AutostartError> {
    if answers(socket)? {
        return Ok(());
    }
    let directory = socket.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(step("create", directory))?;
    let _turn = wait_for_turn(&socket.with_added_extension("start"))?;
    if answers(socket)? {
        return Ok(());
    }
    start(socket, &socket.with_added_extension("log"))
}

/// Whether somebody accepts connections there.
pub(crate) fn answers(socket: &Path) -> Result<bool, AutostartError> {
    match UnixStream::connect(socket) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(false),
            io::ErrorKind::PermissionDenied => {
                Err(AutostartError::Permission { socket: socket.to_owned() })
            }
            _ => Err(step("connect to", socket)(error)),
        },
    }
}

/// Holds the lock until dropped.
fn wait_for_turn(path: &Path) -> Result<File, AutostartError> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(step("open lock file", path))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| step("lock", path)(error.into()))?;
    Ok(lock)
}

/// Starts the daemon detached; returns when it answers.
fn start(socket: &Path, log_path: &Path) -> Result<(), AutostartError> {
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(log_path)
        .map_err(step("open", log_path))?;
    let log_start = log.seek(SeekFrom::End(0)).map_err(step("read", log_path))?;
    let program = std::env::current_exe().map_err(step("find", Path::new("husk")))?;
    let (mut ready, announce) = io::pipe().map_err(step("make a pipe for", &program))?;
    // Settings come from the environment, which the daemon reads as the client does.
    let mut daemon = Command::new(&program)
        .arg("daemon")
        .arg("--host")
        .arg(format!("unix://{}", socket.display()))
        .args(["--ready-fd", "1", "--new-session"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(announce)
        .stderr(log.try_clone().map_err(step("share", log_path))?)
        .spawn()
        .map_err(step("run", &program))?;
    let mut byte = [0];
    match ready.read(&mut byte) {
        Ok(1) => Ok(()),
        _ => {
            // The pipe is closed, so it is ending: collect it.
            let _ = daemon.wait();
            Err(AutostartError::Died {
                last_line: last_line(&mut log, log_start),
                log: log_path.to_owned(),
            })
        }
    }
}

/// The last line that was written after `start`.
fn last_line(log: &mut File, start: u64) -> String {
    let end = log.seek(SeekFrom::End(0)).unwrap_or(start);
    let from = start.max(end.saturating_sub(LOG_TAIL_BYTES));
    let mut bytes = Vec::new();
    let read = log
        .seek(SeekFrom::Start(from))
        .and_then(|_| log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    match (read, text.lines().rev().find(|line| !line.trim().is_empty())) {
        (Ok(_), Some(line)) => line.trim().to_owned(),
        _ => "it wrote nothing to its log".to_owned(),
    }
}

fn step(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AutostartError + use<> {
    let path = path.to_owned();
    move |reason| AutostartError::Step { attempt, path, reason }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_line_is_of_this_start() {
        let mut log = tempfile::tempfile().unwrap();
        writeln!(log, "old").unwrap();
        let start = log.stream_position().unwrap();
        assert_eq!(last_line(&mut log, start), "it wrote nothing to its log");
        log.seek(SeekFrom::End(0)).unwrap();
        writeln!(log, "first\nsecond\n").unwrap();
        assert_eq!(last_line(&mut log, start), "second");
    }

    #[test]
    fn a_socket_nobody_listens_on_does_not_answer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        assert!(!answers(&path).unwrap(), "no file");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(answers(&path).unwrap());
        drop(listener);
        assert!(!answers(&path).unwrap(), "a stale file");
    }
}
