//! `VmConfig` and its descriptors → a [`Machine`] with finished devices.

mod descriptors;

use std::fs::File;
use std::io;
use std::sync::Arc;

use husk_devices::rate_limiter::{Limits, Rate, Throttle};
use husk_devices::virtio::Device;
use husk_devices::virtio::balloon::{self, Balloon};
use husk_devices::virtio::block::{self, Block, Segment, Segments, SegmentsError};
use husk_devices::virtio::net::{self, Net};
use husk_devices::virtio::rng::Rng;
use husk_devices::virtio::vsock::Vsock;
use husk_vmm_config::{
    self as config, Accelerator, Disk, MacAddress, Pmem, RateLimit, TokenBucket, VmConfig,
};

pub(crate) use descriptors::Descriptors;

use crate::accelerator::{Group, Machine, PmemSource};
use crate::backend::{AlarmTimer, DiskFile, HostEntropy, HostMemory, Tap, UnixHost};
use crate::cmdline;
use crate::device_thread::device_tokens;
use crate::poll::Poll;
use crate::sys::TscReading;
use crate::timeline::Timeline;

/// Why a machine could not be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// A descriptor is not what it was said to be.
    #[error("descriptor {index} ({purpose}) is not {expected}")]
    Kind {
        /// Its index.
        index: u32,
        /// What it was given for.
        purpose: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A descriptor cannot be used.
    #[error("failed to use descriptor {index} ({purpose})")]
    Fd {
        /// Its index.
        index: u32,
        /// What it was given for.
        purpose: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The segments of a disk make no disk.
    #[error("failed to put disk {serial} together")]
    Segments {
        /// Its serial.
        serial: String,
        /// Why.
        source: SegmentsError,
    },
    /// A tap that is none, or has not the offloads of one.
    #[error("failed to use the tap of net {mac}")]
    Tap {
        /// The address of the network device.
        mac: MacAddress,
        /// Why.
        source: io::Error,
    },
    /// A timer for a limited device.
    #[error("failed to make a timer")]
    Timer(#[source] io::Error),
    /// An event loop.
    #[error("failed to make an event loop")]
    Poll(#[source] io::Error),
}

/// Builds the devices of a validated configuration.
pub(crate) fn build(
    config: &VmConfig,
    fds: &Descriptors,
    tsc: TscReading,
    timeline: &Arc<Timeline>,
) -> Result<Machine, MachineError> {
    let kernel = fds.file(config.kernel, "kernel", false)?;
    let disks = build_disks(config, fds)?;
    let mut link = build_link(config, fds, timeline)?;
    for net in &config.nets {
        let place = link.devices.len();
        link.devices.push(build_net(net, fds, &link.poll, device_tokens(place))?);
    }
    let mut emulated_balloon = config.balloon;
    if config.accelerator == Accelerator::Kvm {
        link.devices.extend(emulated_balloon.take().map(build_balloon));
    }
    Ok(Machine {
        id: config.id.clone(),
        vcpus: config.vcpus,
        memory_mib: config.memory_mib,
        kernel,
        cmdline: cmdline::assemble(config),
        // A slow disk must not keep the socket device waiting: a thread for each.
        groups: vec![disks, link],
        emulated_balloon,
        pmems: config.pmems.iter().map(|pmem| open_pmem(pmem, fds)).collect::<Result<_, _>>()?,
        kvm: config.kvm.map(|fd| fds.kvm(fd)).transpose()?,
        smaps: File::open("/proc/self/smaps").ok(),
        tsc,
        emulator: config.emulator.clone(),
        timeline: timeline.clone(),
        jail: None,
    })
}

fn build_disks(config: &VmConfig, fds: &Descriptors) -> Result<Group, MachineError> {
    let poll = new_poll()?;
    let mut devices = Vec::with_capacity(config.disks.len());
    for (place, disk) in config.disks.iter().enumerate() {
        let throttle = throttle(disk.rate_limit, &poll, device_tokens(place), block::THROTTLE)?;
        let block = build_disk(disk, fds)?.with_throttle(throttle);
        devices.push(Box::new(block) as Box<dyn Device>);
    }
    Ok(Group { name: "disk", poll, devices })
}

fn build_disk(disk: &Disk, fds: &Descriptors) -> Result<Block<DiskFile>, MachineError> {
    let mut segments = Vec::with_capacity(disk.segments.len());
    for segment in &disk.segments {
        let file = fds.file(segment.fd, "disk segment", !disk.read_only)?;
        segments.push(Segment { backend: DiskFile(file), length: segment.length });
    }
    let segments = Segments::new(segments)
        .map_err(|source| MachineError::Segments { serial: disk.serial.clone(), source })?;
    Ok(Block::new(segments, &disk.serial, disk.read_only))
}

fn build_net(
    config: &config::Net,
    fds: &Descriptors,
    poll: &Poll,
    tokens: u64,
) -> Result<Box<dyn Device>, MachineError> {
    let tap = Tap::new(fds.tap(config.tap)?, poll, tokens | u64::from(net::TAP))
        .map_err(|source| MachineError::Tap { mac: config.mac, source })?;
    let receive = throttle(config.rx_rate_limit, poll, tokens, net::RECEIVE_THROTTLE)?;
    let transmit = throttle(config.tx_rate_limit, poll, tokens, net::TRANSMIT_THROTTLE)?;
    let device = Net::new(tap, config.mac.0, config.mtu).with_throttles(receive, transmit);
    Ok(Box::new(device))
}

fn build_balloon(config: config::Balloon) -> Box<dyn Device> {
    let features = balloon::Features {
        free_page_reporting: config.free_page_reporting,
        statistics: config.statistics,
        deflate_on_oom: config.deflate_on_oom,
    };
    Box::new(Balloon::new(HostMemory, features))
}

/// The limit of a queue, with its alarm under `token` among the device's `tokens`.
fn throttle(
    limit: Option<RateLimit>,
    poll: &Poll,
    tokens: u64,
    token: u32,
) -> Result<Throttle, MachineError> {
    let Some(limit) = limit else { return Ok(Throttle::default()) };
    let rate = |bucket: TokenBucket| Rate {
        size: bucket.size,
        one_time_burst: bucket.one_time_burst,
        refill_per_second: bucket.refill_per_second,
    };
    let limits = Limits { bytes: limit.bytes.map(rate), operations: limit.operations.map(rate) };
    let timer = AlarmTimer::new(poll, tokens | u64::from(token)).map_err(MachineError::Timer)?;
    Ok(Throttle::new(limits, Box::new(timer)))
}

fn open_pmem(pmem: &Pmem, fds: &Descriptors) -> Result<PmemSource, MachineError> {
    Ok(PmemSource { file: fds.file(pmem.fd, "pmem", false)?, length: pmem.length })
}

fn build_link(
    config: &VmConfig,
    fds: &Descriptors,
    timeline: &Arc<Timeline>,
) -> Result<Group, MachineError> {
    let poll = new_poll()?;
    let listener = fds.listener(config.vsock.listener, "vsock.listener")?;
    let directory = config.vsock.directory.clone();
    let host = UnixHost::new(listener, directory, poll.clone(), device_tokens(0), timeline.clone());
    let host = host.map_err(MachineError::Poll)?;
    let vsock = Vsock::new(host, config.vsock.guest_cid);
    let devices: Vec<Box<dyn Device>> = vec![Box::new(vsock), Box::new(Rng::new(HostEntropy))];
    Ok(Group { name: "link", poll, devices })
}

fn new_poll() -> Result<Arc<Poll>, MachineError> {
    Poll::new().map(Arc::new).map_err(MachineError::Poll)
}
