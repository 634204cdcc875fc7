//! QEMU's `microvm` machine under TCG, with our own devices over vhost-user.
//!
//! ```text
//! husk-vmm                                   qemu-system-x86_64
//!   main thread ◀── pidfd, stderr, console ──  CPU, memory (memfd, shared), interrupts
//!   disk thread ◀── vhost-user, one socket a device ──▶ virtio-mmio transports
//!   link thread ◀── kicks, calls: eventfds ──▶ the guest's queues
//! ```

mod command;
mod guest;

use std::error::Error as _;
use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::{Accelerator, AcceleratorError, Group, Guest, Machine};
use crate::device_thread::{Endpoint, Notices, Worker};
use crate::jail::{EmulatorJail, Jail, JailError};
use crate::poll::Poll;
use crate::sys::{Inherited, spawn};
use crate::vhost_user::FrontEnd;
use command::{Arguments, DeviceArgument, kernel_parameters};
use guest::{Devices, SoftwareGuest, kill};

/// The accelerator.
#[derive(Debug)]
pub(crate) struct Software;

impl Accelerator for Software {
    fn start(&self, mut machine: Machine, poll: &Poll) -> Result<Box<dyn Guest>, AcceleratorError> {
        let io = |attempt| move |source| AcceleratorError::Io { attempt, source };
        let (notices, inbox) = Notices::channel().map_err(io("make an event descriptor"))?;
        let mut inherited = Inherited::default();
        let (groups, arguments) = connect(std::mem::take(&mut machine.groups), &mut inherited)?;
        let (console, theirs) = UnixStream::pair().map_err(io("make the console's socket"))?;
        let console_fd = inherited.add(theirs).map_err(io("pass the console's socket"))?;
        let kernel_fd = inherited.add(machine.kernel).map_err(io("pass the kernel"))?;
        let tsc_khz = machine.tsc.rate_khz();
        let arguments = command::arguments(&Arguments {
            id: machine.id,
            vcpus: machine.vcpus,
            memory_mib: machine.memory_mib,
            kernel_fd,
            console_fd,
            cmdline: format!("{} {}", kernel_parameters(tsc_khz), machine.cmdline),
            tsc_khz,
            devices: &arguments,
        });
        let emulator = machine.emulator.ok_or(AcceleratorError::NoEmulator)?;
        let mut child = start_emulator(&emulator, arguments, &inherited, machine.jail.as_ref())?;
        drop(inherited);
        let started = close(machine.jail).and_then(|()| serve(groups, &notices));
        let devices = match started {
            Ok((workers, count)) => Devices { workers, count, inbox },
            Err(error) => {
                kill(&mut child);
                return Err(error);
            }
        };
        let guest = SoftwareGuest::new(child, console, devices, machine.timeline, poll);
        Ok(Box::new(guest.map_err(io("watch the emulator"))?))
    }
}

/// A group's devices, each with our end of its socket.
struct Served {
    name: &'static str,
    poll: Arc<Poll>,
    devices: Vec<Box<dyn Endpoint>>,
}

/// Makes a socket for each device, the other end of which the emulator inherits.
fn connect(
    groups: Vec<Group>,
    inherited: &mut Inherited,
) -> Result<(Vec<Served>, Vec<DeviceArgument>), AcceleratorError> {
    let io = |attempt| move |source| AcceleratorError::Io { attempt, source };
    let mut arguments = Vec::new();
    let mut served = Vec::new();
    for Group { name, poll, devices } in groups {
        let mut connected: Vec<Box<dyn Endpoint>> = Vec::new();
        for (place, device) in devices.into_iter().enumerate() {
            let (ours, theirs) = UnixStream::pair().map_err(io("make a device's socket"))?;
            let fd = inherited.add(theirs).map_err(io("pass a device's socket"))?;
            arguments.push(DeviceArgument { kind: device.kind(), fd });
            let front_end = FrontEnd::new(device, place, poll.clone(), ours);
            connected.push(Box::new(front_end.map_err(io("watch a device's socket"))?));
        }
        served.push(Served { name, poll, devices: connected });
    }
    Ok((served, arguments))
}

/// Starts the emulator in its jail, as long as there is no other thread.
fn start_emulator(
    path: &Path,
    arguments: Vec<OsString>,
    inherited: &Inherited,
    jail: Option<&Jail>,
) -> Result<Child, AcceleratorError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => AcceleratorError::NoEmulator,
        _ => AcceleratorError::Spawn { path: path.to_owned(), source },
    };
    // In its jail there is nothing but what it needs: no links that lead elsewhere.
    let program = path.canonicalize().map_err(failed)?;
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let jail = jail.map(|jail| jail.emulator(&program));
    let confine =
        move || jail.as_ref().map_or(Ok(()), EmulatorJail::enter).map_err(|error| chain(&error));
    spawn(command, inherited, confine).map_err(failed)
}

/// An error and what lies behind it, in one line.
fn chain(error: &JailError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn close(jail: Option<Jail>) -> Result<(), AcceleratorError> {
    Ok(jail.map_or(Ok(()), Jail::close)?)
}

/// Starts the threads; answers them, and how many devices they serve.
fn serve(groups: Vec<Served>, notices: &Notices) -> Result<(Vec<Worker>, usize), AcceleratorError> {
    let count = groups.iter().map(|group| group.devices.len()).sum();
    let mut workers = Vec::new();
    for Served { name, poll, devices } in groups {
        workers.push(Worker::start(name, poll, devices, notices.clone())?);
    }
    Ok((workers, count))
}
