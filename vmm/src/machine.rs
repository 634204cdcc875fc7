//! `VmConfig` and its descriptors → a [`Machine`] with finished devices.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use husk_devices::virtio::Device;
use husk_devices::virtio::block::{Block, Segment, Segments, SegmentsError};
use husk_devices::virtio::rng::Rng;
use husk_devices::virtio::vsock::Vsock;
use husk_vmm_config::{Disk, FdIndex, Pmem, VmConfig};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, makedev};
use rustix::net::sockopt::socket_acceptconn;

use crate::accelerator::{Group, Machine, PmemSource};
use crate::backend::{DiskFile, HostEntropy, UnixHost};
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
    /// An event loop.
    #[error("failed to make an event loop")]
    Poll(#[source] io::Error),
}

/// The numbers of `/dev/kvm` (the kernel's `admin-guide/devices.txt`).
const KVM_DEVICE: (u32, u32) = (10, 232);

/// The descriptors that came along, taken out by index.
#[derive(Debug)]
pub(crate) struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    /// Takes the received descriptors over.
    pub(crate) fn new(fds: Vec<OwnedFd>) -> Self {
        Self(fds)
    }

    /// A listening unix stream socket.
    pub(crate) fn listener(
        &self,
        fd: FdIndex,
        purpose: &'static str,
    ) -> Result<UnixListener, MachineError> {
        let owned = self.duplicate(fd, purpose)?;
        match socket_acceptconn(&owned) {
            Ok(true) => Ok(UnixListener::from(owned)),
            _ => Err(MachineError::Kind { index: fd.0, purpose, expected: "a listening socket" }),
        }
    }

    /// A regular file, open for reading, or for both.
    pub(crate) fn file(
        &self,
        fd: FdIndex,
        purpose: &'static str,
        writable: bool,
    ) -> Result<File, MachineError> {
        let failed = |error: rustix::io::Errno| MachineError::Fd {
            index: fd.0,
            purpose,
            source: error.into(),
        };
        let owned = self.duplicate(fd, purpose)?;
        let kind = |expected| Err(MachineError::Kind { index: fd.0, purpose, expected });
        if FileType::from_raw_mode(fstat(&owned).map_err(failed)?.st_mode) != FileType::RegularFile
        {
            return kind("a regular file");
        }
        let access = fcntl_getfl(&owned).map_err(failed)? & OFlags::RWMODE;
        match (access, writable) {
            (OFlags::RDWR, _) | (OFlags::RDONLY, false) => Ok(File::from(owned)),
            (OFlags::WRONLY, true) if purpose == "report" => Ok(File::from(owned)),
            (_, true) => kind("open for writing"),
            (_, false) => kind("open for reading"),
        }
    }

    /// The device of KVM, open for reading and writing.
    pub(crate) fn kvm(&self, fd: FdIndex) -> Result<File, MachineError> {
        let expected = "/dev/kvm, open for reading and writing";
        self.device(fd, "kvm", KVM_DEVICE, expected)
    }

    /// A character device of that number, open for reading and writing.
    fn device(
        &self,
        fd: FdIndex,
        purpose: &'static str,
        (major, minor): (u32, u32),
        expected: &'static str,
    ) -> Result<File, MachineError> {
        let failed = |error: rustix::io::Errno| MachineError::Fd {
            index: fd.0,
            purpose,
            source: error.into(),
        };
        let owned = self.duplicate(fd, purpose)?;
        let status = fstat(&owned).map_err(failed)?;
        let right = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && status.st_rdev == makedev(major, minor)
            && fcntl_getfl(&owned).map_err(failed)? & OFlags::RWMODE == OFlags::RDWR;
        if right {
            return Ok(File::from(owned));
        }
        Err(MachineError::Kind { index: fd.0, purpose, expected })
    }

    fn duplicate(&self, fd: FdIndex, purpose: &'static str) -> Result<OwnedFd, MachineError> {
        let failed = |source| MachineError::Fd { index: fd.0, purpose, source };
        let owned = self.0.get(fd.0 as usize).ok_or(io::ErrorKind::NotFound.into());
        owned.and_then(OwnedFd::try_clone).map_err(failed)
    }
}

/// Builds the devices of a validated configuration.
pub(crate) fn build(
    config: &VmConfig,
    fds: &Descriptors,
    tsc: TscReading,
    timeline: &Arc<Timeline>,
) -> Result<Machine, MachineError> {
    let kernel = fds.file(config.kernel, "kernel", false)?;
    let disks = config.disks.iter().map(|disk| build_disk(disk, fds)).collect::<Result<_, _>>()?;
    let disks = Group { name: "disk", poll: new_poll()?, devices: disks };
    let link = build_link(config, fds, timeline)?;
    Ok(Machine {
        id: config.id.clone(),
        vcpus: config.vcpus,
        memory_mib: config.memory_mib,
        kernel,
        cmdline: cmdline::assemble(config),
        // A slow disk must not keep the socket device waiting: a thread for each.
        groups: vec![disks, link],
        pmems: config.pmems.iter().map(|pmem| open_pmem(pmem, fds)).collect::<Result<_, _>>()?,
        kvm: config.kvm.map(|fd| fds.kvm(fd)).transpose()?,
        smaps: File::open("/proc/self/smaps").ok(),
        tsc,
        emulator: config.emulator.clone(),
        timeline: timeline.clone(),
        jail: None,
    })
}

fn build_disk(disk: &Disk, fds: &Descriptors) -> Result<Box<dyn Device>, MachineError> {
    let mut segments = Vec::with_capacity(disk.segments.len());
    for segment in &disk.segments {
        let file = fds.file(segment.fd, "disk segment", !disk.read_only)?;
        segments.push(Segment { backend: DiskFile(file), length: segment.length });
    }
    let segments = Segments::new(segments)
        .map_err(|source| MachineError::Segments { serial: disk.serial.clone(), source })?;
    Ok(Box::new(Block::new(segments, &disk.serial, disk.read_only)))
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
