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

use std::io;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use super::{Accelerator, AcceleratorError, Guest, Machine};
use crate::device_thread::{Endpoint, Notices, Worker};
use crate::poll::Poll;
use crate::sys::{Inherited, spawn};
use crate::vhost_user::FrontEnd;
use command::{Arguments, DeviceArgument, arguments, kernel_parameters};
use guest::{Devices, SoftwareGuest};

/// The accelerator.
#[derive(Debug)]
pub(crate) struct Software;

impl Accelerator for Software {
    fn start(&self, machine: Machine, poll: &Poll) -> Result<Box<dyn Guest>, AcceleratorError> {
        let io = |attempt| move |source| AcceleratorError::Io { attempt, source };
        let emulator = machine.emulator.clone().ok_or(AcceleratorError::NoEmulator)?;
        let (notices, inbox) = Notices::channel().map_err(io("make an event descriptor"))?;
        let mut inherited = Inherited::default();
        let mut devices = Vec::new();
        let mut workers = Vec::new();
        for group in machine.groups {
            let mut endpoints: Vec<Box<dyn Endpoint>> = Vec::new();
            for (place, device) in group.devices.into_iter().enumerate() {
                let (ours, theirs) = UnixStream::pair().map_err(io("make a device's socket"))?;
                let fd = inherited.add(theirs).map_err(io("pass a device's socket"))?;
                devices.push(DeviceArgument { kind: device.kind(), fd });
                let front_end = FrontEnd::new(device, place, group.poll.clone(), ours);
                endpoints.push(Box::new(front_end.map_err(io("watch a device's socket"))?));
            }
            workers.push(Worker::start(group.name, group.poll, endpoints, notices.clone())?);
        }
        let (console, theirs) = UnixStream::pair().map_err(io("make the console's socket"))?;
        let console_fd = inherited.add(theirs).map_err(io("pass the console's socket"))?;
        let kernel_fd = inherited.add(machine.kernel).map_err(io("pass the kernel"))?;
        let tsc_khz = machine.tsc.rate_khz();
        let arguments = arguments(&Arguments {
            id: machine.id,
            vcpus: machine.vcpus,
            memory_mib: machine.memory_mib,
            kernel_fd,
            console_fd,
            cmdline: format!("{} {}", kernel_parameters(tsc_khz), machine.cmdline),
            tsc_khz,
            devices: &devices,
        });
        let mut command = Command::new(&emulator);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = spawn(command, &inherited).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => AcceleratorError::NoEmulator,
            _ => AcceleratorError::Spawn { path: emulator, source },
        })?;
        let devices = Devices { workers, count: devices.len(), inbox };
        let guest = SoftwareGuest::new(child, console, devices, machine.timeline, poll);
        Ok(Box::new(guest.map_err(io("watch the emulator"))?))
    }
}
