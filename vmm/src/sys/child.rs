//! Starting a program that dies with us and inherits what it is given, nothing else.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::signal::unblock_all;

/// The first number that an inherited descriptor gets.
const FIRST: RawFd = 3;

/// Copies of the originals lie above any target number, so that none is overwritten too early.
const COPIES_FROM: RawFd = 64;

/// Descriptors for a child, numbered from 3 on in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// Adds a descriptor and returns its number in the child.
    pub(crate) fn add(&mut self, fd: impl AsFd) -> io::Result<RawFd> {
        let number = FIRST + RawFd::try_from(self.0.len()).map_err(io::Error::other)?;
        if number >= COPIES_FROM {
            return Err(io::Error::other("too many descriptors for one child"));
        }
        self.0.push(fcntl_dupfd_cloexec(fd, COPIES_FROM)?);
        Ok(number)
    }
}

/// Starts `command` in a process group of its own, with an empty environment, killed when the
/// calling thread ends: to be called on the main thread, before there are others. `confine` is what
/// the child does to itself first; its error is told as ours.
pub(crate) fn spawn<E: Display>(
    mut command: Command,
    inherited: &Inherited,
    mut confine: impl FnMut() -> Result<(), E> + Send + Sync + 'static,
) -> io::Result<Child> {
    let parent = rustix::process::getpid();
    let sources: Vec<RawFd> = inherited.0.iter().map(AsRawFd::as_raw_fd).collect();
    let (mut told, tell) = io::pipe()?;
    command.env_clear().process_group(0);
    // SAFETY: the closure runs between fork and exec. What it allocates and locks is free for it, as
    // this process has no thread that could have been in the middle of that.
    unsafe {
        command.pre_exec(move || {
            confine().map_err(|error| {
                // Nobody is left to hear that it failed.
                let _ = (&tell).write_all(error.to_string().as_bytes());
                io::Error::from_raw_os_error(libc::ECANCELED)
            })?;
            prepare(parent, &sources)
        });
    }
    let spawned = command.spawn();
    // Our end of the pipe for writing is in it.
    drop(command);
    spawned.map_err(|error| {
        let mut text = String::new();
        match told.read_to_string(&mut text) {
            Ok(length) if length > 0 => io::Error::other(text),
            _ => error,
        }
    })
}

/// What the child does before it becomes the program.
fn prepare(parent: Pid, sources: &[RawFd]) -> io::Result<()> {
    unblock_all();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above.
    if getppid() != Some(parent) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let mut target = FIRST;
    for &source in sources {
        // SAFETY: the source is open, held by `Inherited` in the parent; whatever had the
        // target's number in this process is close-on-exec and not used before that.
        if unsafe { libc::dup2(source, target) } < 0 {
            return Err(io::Error::last_os_error());
        }
        target += 1;
    }
    // All our descriptors are close-on-exec already; this covers those of a careless parent. On
    // kernels before 5.11 the call fails, and the rule alone holds.
    let first = libc::c_uint::try_from(target).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC)
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: setting close-on-exec invalidates no descriptor in this process.
    unsafe { libc::close_range(first, libc::c_uint::MAX, flags) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_child_has_the_given_descriptors_and_no_environment() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut inherited = Inherited::default();
        assert_eq!(inherited.add(&theirs).unwrap(), 3);
        drop(theirs);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ls /proc/self/fd; echo env=$HOME; echo hello >&3"]);
        command.stdout(Stdio::piped());
        let mut child = spawn(command, &inherited, || io::Result::Ok(())).unwrap();
        drop(inherited);
        let mut listed = String::new();
        child.stdout.take().unwrap().read_to_string(&mut listed).unwrap();
        assert!(child.wait().unwrap().success());
        // 0 to 2, ours, and the one that `ls` opens.
        assert_eq!(listed, "0\n1\n2\n3\n4\nenv=\n");
        let mut said = String::new();
        (&ours).read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello\n");
    }

    #[test]
    fn a_child_that_cannot_be_confined_says_why() {
        let confine = || Err("no room in the jail");
        let error = spawn(Command::new("/bin/true"), &Inherited::default(), confine).unwrap_err();
        assert_eq!(error.to_string(), "no room in the jail");
    }
}
