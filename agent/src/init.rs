//! What PID 1 does: makes the guest fit for containers, serves, and powers off. It never returns,
//! because the kernel panics when PID 1 ends.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use husk_protocol::{AGENT_PORT, READY_PORT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::MountAttrFlags;
use rustix::system::{RebootCommand, reboot};

use crate::console;
use crate::container::Environment;
use crate::container::cgroup::enable_controllers;
use crate::container::error::{Attempt, ContainerError, chain};
use crate::disk::Disks;
use crate::mount::{FileSystem, attach_at};
use crate::server::Server;
use crate::server::listener::Listener;
use crate::sys::link::loopback_up;
use crate::sys::signal::ChildSignal;
use crate::sys::vsock;

/// Where container's mount points are made.
const RUN: &str = "/run/husk";

/// Where the hierarchy of cgroups is mounted.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The cgroup of all containers.
const CGROUPS: &str = "/sys/fs/cgroup/husk";

/// How long the host has to take the last answer, before the power goes.
const FAREWELL: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// Runs the guest, from the first instruction of user space to the end of power.
pub fn run() -> ! {
    std::panic::set_hook(Box::new(|panic| {
        console::error(format_args!("panicked: {panic}"));
        power_off()
    }));
    if let Err(error) = serve() {
        console::error(chain(&error));
    }
    power_off()
}

fn serve() -> Result<(), ContainerError> {
    mount_system()?;
    fs::create_dir_all(RUN).attempt(|| format!("create {RUN}"))?;
    enable_controllers(Path::new(CGROUP_ROOT))
        .and_then(|()| fs::create_dir_all(CGROUPS))
        .and_then(|()| enable_controllers(Path::new(CGROUPS)))
        .attempt(|| "enable cgroup controllers".to_owned())?;
    loopback_up().attempt(|| "bring the loopback link up".to_owned())?;
    let children = ChildSignal::new().attempt(|| "watch for children".to_owned())?;
    let listener =
        Listener::vsock(AGENT_PORT).attempt(|| format!("listen on vsock port {AGENT_PORT}"))?;
    let environment = Environment {
        disks: Disks { list: "/sys/block".into(), nodes: "/dev".into() },
        run: RUN.into(),
        cgroups: CGROUPS.into(),
    };
    let server = Server::new(listener, children, environment)
        .attempt(|| "set up the event loop".to_owned())?;
    // A host that does not listen for it may call all the same.
    if let Err(error) = vsock::connect(vsock::HOST, READY_PORT) {
        let reason = chain(&error);
        console::error(format_args!("failed to tell the host on port {READY_PORT}: {reason}"));
    }
    let farewell = server.run().attempt(|| "serve the host".to_owned())?;
    if let Some(connection) = farewell {
        linger(connection);
    }
    Ok(())
}

/// Mounts what the kernel shows of itself, and room to write.
fn mount_system() -> Result<(), ContainerError> {
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let devices = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount("proc", "/proc", plain, &[])?;
    mount("sysfs", "/sys", plain, &[])?;
    mount("cgroup2", CGROUP_ROOT, plain, &[])?;
    // The kernel may have mounted it before it started us.
    let null = fs::metadata("/dev/null");
    if !null.is_ok_and(|null| null.file_type().is_char_device()) {
        mount("devtmpfs", "/dev", devices, &[])?;
    }
    mount("tmpfs", "/run", plain, &[("mode", Some("0755"))])
}

fn mount(
    kind: &str,
    target: &str,
    attributes: MountAttrFlags,
    more: &[(&str, Option<&str>)],
) -> Result<(), ContainerError> {
    let options = [&[("source", Some(kind))], more].concat();
    FileSystem { kind, options: &options, attributes }
        .mount()
        .map_err(|source| ContainerError::Mount { target: target.to_owned(), source })
        .and_then(|made| attach_at(made, Path::new(target)).attempt(|| format!("mount {target}")))
}

/// Waits until the host has taken the last answer and closed, for a while.
fn linger(connection: impl AsFd) {
    let mut descriptors = [PollFd::new(&connection, PollFlags::IN)];
    // Whatever comes, or nothing, ends the wait.
    let _ = poll(&mut descriptors, Some(&FAREWELL));
}

/// Ends the guest. A restart, because that is what makes a VMM without a power button exit.
fn power_off() -> ! {
    rustix::fs::sync();
    let error = match reboot(RebootCommand::Restart) {
        Ok(()) => io::Error::other("it returned"),
        Err(error) => error.into(),
    };
    console::error(format_args!("failed to power off: {error}"));
    loop {
        rustix::event::pause();
    }
}
