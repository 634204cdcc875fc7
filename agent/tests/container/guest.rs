//! One story's guest: a server process with disks of its own.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use husk_agent::container::Environment;
use husk_agent::disk::Disks;
use husk_agent::server::Server;
use husk_agent::server::listener::Listener;
use husk_agent::sys::signal::ChildSignal;
use husk_protocol::{ReplyBody, RequestBody};

use crate::client::{Control, connect};

/// A running server.
pub(crate) struct Guest {
    server: Child,
    directory: PathBuf,
}

impl Guest {
    /// Starts one on an empty writable disk.
    pub(crate) fn start(directory: &Path) -> Self {
        let disk = fs::read_to_string(directory.join("writable")).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F", &disk]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let run = directory.join("run");
        let _ = fs::remove_dir_all(&run);
        fs::create_dir(&run).unwrap();
        let _ = fs::remove_file(directory.join("socket"));
        let listener = UnixListener::bind(directory.join("socket")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .arg(directory)
            .stdin(std::os::fd::OwnedFd::from(listener))
            .spawn()
            .unwrap();
        Self { server, directory: directory.to_owned() }
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// A control connection.
    pub(crate) fn control(&self) -> Control {
        Control::open(&self.socket())
    }

    /// How many descriptors the server has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.server.id())).unwrap().count()
    }

    /// Ends it, and tells what it has left behind.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        if connect(&self.socket()).is_ok() {
            match self.control().ask(RequestBody::Shutdown) {
                ReplyBody::Done => {}
                other => return Err(format!("shutdown: {other:?}")),
            }
        }
        let status = self.server.wait().unwrap();
        let left: Vec<_> = fs::read_dir(self.directory.join("run")).unwrap().collect();
        let cgroup = fs::read_to_string(self.directory.join("cgroup")).unwrap();
        let cgroups = fs::read_dir(cgroup).unwrap().flatten();
        let cgroups = cgroups.filter(|entry| entry.file_type().unwrap().is_dir()).count();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains("/run/")).count();
        if !status.success() || !left.is_empty() || cgroups > 0 || mounts > 0 {
            return Err(format!("{status}, left: {left:?}, {cgroups} cgroups, {mounts} mounts"));
        }
        Ok(())
    }
}

/// The server process: listens on its standard input.
pub(crate) fn serve(directory: &Path) -> ExitCode {
    let listener = rustix::io::dup(rustix::stdio::stdin()).unwrap();
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC).unwrap();
    let environment = Environment {
        disks: Disks { list: directory.join("disks"), nodes: "/dev".into() },
        run: directory.join("run"),
        cgroups: fs::read_to_string(directory.join("cgroup")).unwrap().into(),
    };
    let children = ChildSignal::new().unwrap();
    let server = Server::new(Listener::new(listener, |_| true), children, environment).unwrap();
    let farewell = server.run().unwrap();
    drop(farewell);
    ExitCode::SUCCESS
}
