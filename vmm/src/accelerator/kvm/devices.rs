//! The devices of this machine: their windows on the bus, their lines, their threads.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use husk_devices::bus::Bus;
use husk_devices::mmio::QUEUE_NOTIFY;
use husk_devices::virtio::Memory;

use crate::accelerator::{AcceleratorError, Group};
use crate::device_thread::{Endpoint, Line, MmioDevice, Notices, Worker};
use crate::kvm;
use crate::memory::{Layout, Range};
use crate::poll::Poll;

/// A device with its place in the guest.
struct Placed {
    device: MmioDevice,
    interrupt: Line,
    window: Range,
    gsi: u32,
}

/// Devices that one thread will serve.
struct PlacedGroup {
    name: &'static str,
    poll: Arc<Poll>,
    devices: Vec<Placed>,
}

/// All devices, with a transport each.
pub(super) struct Devices(Vec<PlacedGroup>);

impl Devices {
    /// Gives each device, in order, a window and the line of the same number plus one.
    pub(super) fn new(
        groups: Vec<Group>,
        memory: &Memory,
        layout: &Layout,
    ) -> Result<Self, AcceleratorError> {
        let failed = |source| AcceleratorError::Io { attempt: "connect a device", source };
        let mut places = (1..).zip(layout.windows());
        let mut placed_groups = Vec::with_capacity(groups.len());
        for Group { name, poll, devices } in groups {
            let mut placed = Vec::with_capacity(devices.len());
            for (place, device) in devices.into_iter().enumerate() {
                let (gsi, window) = places.next().expect("the layout has a window for each");
                let interrupt = Line::new().map_err(failed)?;
                let out = Box::new(interrupt.clone());
                let device = MmioDevice::new(device, place, poll.clone(), memory.clone(), out);
                let device = device.map_err(failed)?;
                placed.push(Placed { device, interrupt, window, gsi });
            }
            placed_groups.push(PlacedGroup { name, poll, devices: placed });
        }
        Ok(Self(placed_groups))
    }

    /// What KVM connects.
    pub(super) fn lines(&self) -> impl Iterator<Item = kvm::Line<'_>> {
        self.0.iter().flat_map(|group| &group.devices).map(|placed| kvm::Line {
            gsi: placed.gsi,
            interrupt: placed.interrupt.as_fd(),
            notify: placed.window.start + QUEUE_NOTIFY,
            queues: placed.device.kicks().iter().map(AsFd::as_fd).collect(),
        })
    }

    /// Puts the devices on a bus and starts their threads.
    pub(super) fn serve(
        self,
        notices: &Notices,
    ) -> Result<(Arc<Bus>, Vec<Worker>), AcceleratorError> {
        let mut bus = Bus::new();
        let mut workers = Vec::with_capacity(self.0.len());
        for PlacedGroup { name, poll, devices } in self.0 {
            let mut endpoints: Vec<Box<dyn Endpoint>> = Vec::with_capacity(devices.len());
            for Placed { device, window, .. } in devices {
                bus.insert(window.start, window.length, device.transport()).map_err(|error| {
                    let source = io::Error::other(error);
                    AcceleratorError::Io { attempt: "put a device on the bus", source }
                })?;
                endpoints.push(Box::new(device));
            }
            workers.push(Worker::start(name, poll, endpoints, notices.clone())?);
        }
        Ok((Arc::new(bus), workers))
    }
}
