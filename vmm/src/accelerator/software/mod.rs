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

use husk_devices::virtio::{Device, DeviceKind};
use husk_vmm_config::MacAddress;

use super::{Accelerator, AcceleratorError, Group, Guest, Machine};
use crate::device_thread::{Endpoint, Notices, Worker};
use crate::jail::{EmulatorJail, Jail, JailError};
use crate::poll::Poll;
use crate::sys::{Inherited, spawn};
use crate::vhost_user::{FrontEnd, Rendezvous};
use command::{Arguments, DeviceArgument, kernel_parameters};
use guest::{Devices, REACH_TIMEOUT, SoftwareGuest, kill, watch_end};

/// The accelerator.
#[derive(Debug)]
pub(crate) struct Software;

impl Accelerator for Software {
    fn start(&self, mut machine: Machine, poll: &Poll) -> Result<Box<dyn Guest>, AcceleratorError> {
        let io = |attempt| move |source| AcceleratorError::Io { attempt, source };
        let (notices, inbox) = Notices::channel().map_err(io("make an event descriptor"))?;
        let mut inherited = Inherited::default();
        let (groups, mut arguments) = connect(std::mem::take(&mut machine.groups), &mut inherited)?;
        arguments.extend(machine.emulated_balloon.map(DeviceArgument::Balloon));
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
        let started = close(machine.jail).and_then(|()| serve(groups, &child, &notices));
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

/// A group's devices, each with our end of its connection.
struct Served {
    name: &'static str,
    poll: Arc<Poll>,
    devices: Vec<(Box<dyn Device>, Connection)>,
}

/// Our end of a device's connection.
enum Connection {
    Made(UnixStream),
    Awaited(Rendezvous),
}

/// Makes a connection for each device, the other end of which the emulator inherits or calls.
fn connect(
    groups: Vec<Group>,
    inherited: &mut Inherited,
) -> Result<(Vec<Served>, Vec<DeviceArgument>), AcceleratorError> {
    let io = |attempt| move |source| AcceleratorError::Io { attempt, source };
    let mut arguments = Vec::new();
    let mut served = Vec::new();
    for Group { name, poll, devices } in groups {
        let mut connected = Vec::new();
        for device in devices {
            let connection = if device.kind() == DeviceKind::Net {
                let rendezvous = Rendezvous::new().map_err(io("make a device's socket"))?;
                arguments.push(net_argument(&*device, rendezvous.name()));
                Connection::Awaited(rendezvous)
            } else {
                let (ours, theirs) = UnixStream::pair().map_err(io("make a device's socket"))?;
                let fd = inherited.add(theirs).map_err(io("pass a device's socket"))?;
                arguments.push(DeviceArgument::Socket { kind: device.kind(), fd });
                Connection::Made(ours)
            };
            connected.push((device, connection));
        }
        served.push(Served { name, poll, devices: connected });
    }
    Ok((served, arguments))
}

/// What the emulator must know of a network device: its configuration space (section 5.1.4).
fn net_argument(device: &dyn Device, name: &str) -> DeviceArgument {
    let (mut mac, mut mtu) = ([0; 6], [0; 2]);
    device.read_config(0, &mut mac);
    device.read_config(10, &mut mtu);
    let (mac, mtu) = (MacAddress(mac), u16::from_le_bytes(mtu));
    DeviceArgument::Net { name: name.to_owned(), mac, mtu }
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

/// Starts the threads; answers them, and how many devices they should serve. A device that the
/// emulator does not call has none: that the emulator has ended, or hangs, shows elsewhere.
fn serve(
    groups: Vec<Served>,
    child: &Child,
    notices: &Notices,
) -> Result<(Vec<Worker>, usize), AcceleratorError> {
    let io = |attempt| move |source| AcceleratorError::Io { attempt, source };
    let count = groups.iter().map(|group| group.devices.len()).sum();
    let ended = watch_end(child).map_err(io("watch the emulator"))?;
    let mut workers = Vec::new();
    for Served { name, poll, devices } in groups {
        let mut endpoints: Vec<Box<dyn Endpoint>> = Vec::new();
        for (place, (device, connection)) in devices.into_iter().enumerate() {
            let socket = match connection {
                Connection::Made(socket) => Some(socket),
                Connection::Awaited(rendezvous) => rendezvous
                    .accept(child.id(), &ended, REACH_TIMEOUT)
                    .map_err(io("wait for the emulator's call"))?,
            };
            let Some(socket) = socket else { break };
            let front_end = FrontEnd::new(device, place, poll.clone(), socket);
            endpoints.push(Box::new(front_end.map_err(io("watch a device's socket"))?));
        }
        workers.push(Worker::start(name, poll, endpoints, notices.clone())?);
    }
    Ok((workers, count))
}
