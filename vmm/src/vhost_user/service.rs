//! One device at the far end of the vhost-user protocol: its messages, for a queued device.

use std::fs::File;
use std::io;
use std::sync::Arc;

use husk_devices::virtio::{Device, Memory, QueuedDevice, Ran, Readiness, place_queue};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryRegion, GuestRegionMmap};

use crate::device_thread::Token;
use crate::poll::{Poll, Watch};

/// The largest queue: QEMU's virtio-mmio lets the driver choose up to this size, whatever the
/// device would have offered.
const QUEUE_SIZE_MAX: u16 = 1024;

/// The event descriptors of a queue.
#[derive(Default)]
struct Ring {
    kick: Option<File>,
    call: Option<File>,
    enabled: bool,
}

/// Where the front end has a piece of guest memory in its own address space.
struct Mapping {
    front_end: u64,
    guest: u64,
    length: u64,
}

/// A device and what the front end has said about it.
pub(super) struct Service {
    device: QueuedDevice,
    place: usize,
    rings: Vec<Ring>,
    mappings: Vec<Mapping>,
    poll: Arc<Poll>,
}

impl Service {
    /// Serves `device`, whose events arrive on `poll` under its `place`.
    pub(super) fn new(device: Box<dyn Device>, place: usize, poll: Arc<Poll>) -> io::Result<Self> {
        let device = QueuedDevice::new(device, Some(QUEUE_SIZE_MAX)).map_err(io::Error::other)?;
        let rings = (0..device.queue_count()).map(|_| Ring::default()).collect();
        Ok(Self { device, place, rings, mappings: Vec::new(), poll })
    }

    /// The driver kicked that queue.
    pub(super) fn kick(&mut self, index: u32) -> Ran {
        let Some(kick) = self.rings.get(index as usize).and_then(|ring| ring.kick.as_ref()) else {
            return Ran::default();
        };
        // The count does not matter, and nothing to read means someone was faster.
        let _ = rustix::io::read(kick, &mut [0; 8]);
        let ran = self.device.kick(index);
        self.conclude(ran)
    }

    /// Something that the device watches is ready.
    pub(super) fn handle_event(&mut self, token: u32, readiness: Readiness) -> Ran {
        let ran = self.device.handle_event(token, readiness);
        self.conclude(ran)
    }

    /// Whether queues wait for another turn.
    pub(super) fn has_more(&self) -> bool {
        self.device.has_more()
    }

    /// Gives them that turn.
    pub(super) fn run_again(&mut self) -> Ran {
        let ran = self.device.run_again(0);
        self.conclude(ran)
    }

    /// Watches a queue's kicks, or not for a while.
    pub(super) fn listen(&mut self, index: u32, listen: bool) {
        let Some(Ring { kick: Some(kick), .. }) = self.rings.get(index as usize) else { return };
        if !self.device.is_running(index as usize) {
            return;
        }
        // It fails only where nothing had to be done.
        let _ = if listen {
            self.poll.add(kick, Token::Kick(self.place, index).encode(), Watch::Readable)
        } else {
            self.poll.remove(kick)
        };
    }

    /// All rings may be used, as soon as they are complete.
    pub(super) fn enable(&mut self) {
        self.rings.iter_mut().for_each(|ring| ring.enabled = true);
    }

    /// The front end is gone.
    pub(super) fn disconnect(&mut self) {
        self.stop_all();
        self.device.set_memory(None);
    }

    /// Passes on to the front end what the device did; not that its configuration space has changed,
    /// which no device does that is served here.
    fn conclude(&mut self, ran: Ran) -> Ran {
        for (index, ring) in self.rings.iter().enumerate() {
            if let (true, Some(call)) = (ran.signal & 1 << index != 0, &ring.call) {
                // It fails only where the count is full, so that the driver is told anyway.
                let _ = rustix::io::write(call, &1_u64.to_ne_bytes());
            }
            if let (true, Some(kick)) = (ran.broken & 1 << index != 0, &ring.kick) {
                // It fails only where the kicks are not listened to anyway.
                let _ = self.poll.remove(kick);
            }
        }
        ran
    }

    /// Starts the queue once it has all it needs.
    fn start(&mut self, index: usize) -> Result<()> {
        let ring = &self.rings[index];
        let Some(kick) = &ring.kick else { return Ok(()) };
        if self.mappings.is_empty() || self.device.is_running(index) || !ring.enabled {
            return Ok(());
        }
        self.device.start(index).map_err(|_| Error::InvalidParam)?;
        let number = u32::try_from(index).expect("devices have a handful of queues");
        let token = Token::Kick(self.place, number).encode();
        self.poll.add(kick, token, Watch::Readable).map_err(Error::ReqHandlerError)?;
        self.device.activate();
        Ok(())
    }

    /// Walks the queue no more; its state stays.
    fn pause(&mut self, index: usize) {
        if let (true, Some(kick)) = (self.device.is_running(index), &self.rings[index].kick) {
            // It fails only where the kicks are not listened to, which is what is wanted.
            let _ = self.poll.remove(kick);
        }
        self.device.pause(index);
    }

    /// Forgets the queue, and with the first one all that the driver had of the device.
    fn stop(&mut self, index: usize) {
        self.pause(index);
        let ring = &mut self.rings[index];
        ring.kick = None;
        ring.call = None;
        self.device.reset_device();
    }

    fn stop_all(&mut self) {
        (0..self.rings.len()).for_each(|index| self.stop(index));
    }

    /// The place of a queue that there is.
    fn place_of(&self, index: impl Into<u32>) -> Result<usize> {
        let index = usize::try_from(index.into()).map_err(|_| Error::InvalidParam)?;
        if index < self.rings.len() { Ok(index) } else { Err(Error::InvalidParam) }
    }

    /// A queue that may still be configured: once it runs, it is frozen.
    fn stopped_queue(&mut self, index: u32) -> Result<&mut Queue> {
        let place = self.place_of(index)?;
        self.device.stopped_queue(place).ok_or(Error::InvalidOperation("the queue runs"))
    }

    fn guest_address(&self, front_end: u64) -> Result<u64> {
        self.mappings
            .iter()
            .find_map(|mapping| {
                let offset = front_end.checked_sub(mapping.front_end)?;
                (offset < mapping.length).then(|| mapping.guest + offset)
            })
            .ok_or(Error::InvalidParam)
    }
}

impl VhostUserBackendReqHandlerMut for Service {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.stop_all();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.device.features() | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.get_features()? != 0 {
            return Err(Error::InvalidParam);
        }
        self.device.set_features(features);
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            for index in 0..self.rings.len() {
                self.rings[index].enabled = true;
                self.start(index)?;
            }
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let mut mapped = Vec::with_capacity(regions.len());
        let mut mappings = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(files) {
            let guest = GuestAddress(region.guest_phys_addr);
            let mapping = GuestRegionMmap::new(region.mmap_region(file)?, guest);
            mapped.push(mapping.ok_or(Error::InvalidParam)?);
            mappings.push(Mapping {
                front_end: region.user_addr,
                guest: region.guest_phys_addr,
                length: region.memory_size,
            });
        }
        mapped.sort_by_key(GuestMemoryRegion::start_addr);
        let memory = Memory::from_regions(mapped).map_err(|_| Error::InvalidParam)?;
        self.device.set_memory(Some(memory));
        self.mappings = mappings;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        self.stopped_queue(index)?.try_set_size(size).map_err(|_| Error::InvalidParam)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let descriptor = self.guest_address(descriptor)?;
        let used = self.guest_address(used)?;
        let available = self.guest_address(available)?;
        if place_queue(self.stopped_queue(index)?, descriptor, available, used) {
            Ok(())
        } else {
            Err(Error::InvalidParam)
        }
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.stopped_queue(index)?.set_next_avail(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let place = self.place_of(index)?;
        let base = self.device.queue(place).map_or(0, QueueT::next_avail);
        self.stop(place);
        Ok(VhostUserVringState::new(index, base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let place = self.place_of(index)?;
        self.pause(place);
        self.rings[place].kick = fd;
        self.start(place)
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let place = self.place_of(index)?;
        self.rings[place].call = fd;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _fd: Option<File>) -> Result<()> {
        self.place_of(index).map(|_| ())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::MQ)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.rings.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let place = self.place_of(index)?;
        self.rings[place].enabled = enable;
        if enable {
            self.start(place)
        } else {
            self.pause(place);
            Ok(())
        }
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        let mut data = vec![0; size as usize];
        self.device.read_config(offset, &mut data);
        Ok(data)
    }

    fn set_config(&mut self, offset: u32, data: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        self.device.write_config(offset, data);
        Ok(())
    }

    fn set_gpu_socket(&mut self, _backend: GpuBackend) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_OFFERED)
    }

    fn get_inflight_fd(
        &mut self,
        _inflight: &VhostUserInflight,
    ) -> Result<(VhostUserInflight, File)> {
        Err(NOT_OFFERED)
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(NOT_OFFERED)
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _fd: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(NOT_OFFERED)
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> Result<Option<File>> {
        Err(NOT_OFFERED)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(NOT_OFFERED)
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }
}

/// The answer to requests whose protocol feature was not offered.
const NOT_OFFERED: Error = Error::InvalidOperation("this was not offered");
