//! Containers: root file system, cgroup, namespaces and the first process.
//!
//! [`Container::create`] does the agent's part and clones the first process, whose own part is
//! [`setup`]. What a container holds in the kernel is freed by dropping it, after the end of all
//! its processes.

pub mod cgroup;
pub mod channel;
pub mod credential;
pub mod device_node;
pub mod device_rule;
pub mod error;
pub mod limit;
pub mod mount_option;
pub mod mount_point;
pub mod namespace;
pub mod passwd;
pub mod program;
pub mod resource;
pub mod root_dir;
pub mod rootfs;
pub mod setup;
pub mod stdio;
pub mod user;
pub mod validate;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use husk_protocol::CreateContainer;
use oci_spec::runtime::Process;
use rustix::termios::Winsize;

use crate::disk::Disks;
use crate::sys::process::spawn;
use cgroup::Cgroup;
use error::{Attempt, ContainerError};
use rootfs::Rootfs;
use setup::Setup;
use stdio::{AgentStdio, ProcessStdio};

/// Where containers are made.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Where disks are found.
    pub disks: Disks,
    /// A directory, on a tmpfs, for mount points.
    pub run: PathBuf,
    /// A cgroup, whose controllers those below it may use.
    pub cgroups: PathBuf,
}

/// What a container holds in the kernel.
#[derive(Debug)]
pub struct Container {
    /// The processes' cgroup.
    pub cgroup: Cgroup,
    /// The root file system.
    pub rootfs: Rootfs,
}

/// A container's first process, on its way to be prepared.
#[derive(Debug)]
pub struct FirstProcess {
    /// Its process ID in the guest.
    pub pid: u32,
    /// The agent's end of the channel to it.
    pub channel: OwnedFd,
    /// The agent's ends of its streams; those of a terminal come over the channel.
    pub stdio: AgentStdio,
}

impl Container {
    /// Makes a container and clones its first process.
    ///
    /// # Errors
    /// [`ContainerError`]; nothing is left behind then.
    pub fn create(
        environment: &Environment,
        request: &CreateContainer,
    ) -> Result<(Self, FirstProcess), ContainerError> {
        let namespaces = validate::validate(request)?;
        let process = request.spec.process().as_ref().expect("a validated spec has a process");
        let directory = environment.run.join(&request.id);
        let rootfs = Rootfs::mount(directory, &environment.disks, &request.rootfs)?;
        let mut files = Vec::with_capacity(request.files.len());
        for (index, (target, text)) in request.files.iter().enumerate() {
            files.push((rootfs.write_file(index, text)?, PathBuf::from(target)));
        }
        let cgroup = Cgroup::create(&environment.cgroups, &request.id)?;
        let linux = request.spec.linux().as_ref();
        cgroup.apply(&linux.and_then(|linux| linux.resources().clone()).unwrap_or_default())?;
        let (stdio, agent_stdio) = if process.terminal().unwrap_or(false) {
            (ProcessStdio::Terminal(window_size(process)), AgentStdio::default())
        } else {
            ProcessStdio::pipes(request.stdin).attempt(|| "open pipes".to_owned())?
        };
        let (agent_channel, process_channel) =
            channel::pair().attempt(|| "open a socket pair".to_owned())?;
        let setup = Setup {
            spec: &request.spec,
            process,
            user: &request.user,
            root: &rootfs.root(),
            files: &files,
            namespaces,
            stdio: &stdio,
            channel: &process_channel,
        };
        let mut kept = stdio.descriptors();
        kept.push(process_channel.as_fd());
        let pid = spawn(namespaces.clone_flags(), cgroup.as_fd(), &kept, || setup.run())
            .attempt(|| "clone the container's first process".to_owned())?;
        let first = FirstProcess { pid, channel: agent_channel, stdio: agent_stdio };
        Ok((Self { cgroup, rootfs }, first))
    }
}

/// The size that a spec gives its terminal; zero means not known.
fn window_size(process: &Process) -> Winsize {
    let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
    let size = process.console_size();
    Winsize {
        ws_row: size.as_ref().map_or(0, |size| cells(size.height())),
        ws_col: size.as_ref().map_or(0, |size| cells(size.width())),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
