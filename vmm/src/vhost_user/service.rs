//! One device at the far end of the vhost-user protocol.

use std::fs::File;
use std::io;
use std::sync::Arc;

use husk_devices::virtio::{Device, Memory, Readiness};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryRegion, GuestRegionMmap};

use super::token::Token;
use super::{Notice, Notices};
use crate::poll::{Poll, Watch};

/// Turns in a row that one event may cause, before the others get theirs.
const ROUNDS: usize = 4;

/// The largest queue: QEMU's virtio-mmio lets the driver choose up to this size, whatever the
/// device would have offered.
const QUEUE_SIZE_MAX: u16 = 1024;

/// A virtqueue and its two event descriptors.
struct Ring {
    queue: Queue,
    kick: Option<File>,
    call: Option<File>,
    enabled: bool,
    /// Kicks are watched, the queue is walked.
    running: bool,
}

/// Where the front end has a piece of guest memory in its own address space.
struct Mapping {
    front_end: u64,
    guest: u64,
    length: u64,
}

/// A device, its queues, and the memory that both lie in.
pub(super) struct Service {
    device: Box<dyn Device>,
    place: usize,
    rings: Vec<Ring>,
    memory: Option<Memory>,
    mappings: Vec<Mapping>,
    features: u64,
    active: bool,
    /// Queues with work left, by bit.
    again: u32,
    poll: Arc<Poll>,
    notices: Notices,
}

impl Service {
    /// Serves `device`, whose events arrive on `poll` under its `place`.
    pub(super) fn new(
        device: Box<dyn Device>,
        place: usize,
        poll: Arc<Poll>,
        notices: Notices,
    ) -> io::Result<Self> {
        let ring = |_: &u16| {
            let queue = Queue::new(QUEUE_SIZE_MAX).map_err(io::Error::other)?;
            Ok(Ring { queue, kick: None, call: None, enabled: false, running: false })
        };
        let rings = device.queue_sizes().iter().map(ring).collect::<io::Result<_>>()?;
        Ok(Self {
            device,
            place,
            rings,
            memory: None,
            mappings: Vec::new(),
            features: 0,
            active: false,
            again: 0,
            poll,
            notices,
        })
    }

    /// The driver kicked that queue.
    pub(super) fn kick(&mut self, index: u32) {
        let Some(kick) = self.rings.get(index as usize).and_then(|ring| ring.kick.as_ref()) else {
            return;
        };
        // The count does not matter, and nothing to read means someone was faster.
        let _ = rustix::io::read(kick, &mut [0; 8]);
        self.run(1 << index);
    }

    /// Something that the device watches is ready.
    pub(super) fn handle_event(&mut self, token: u32, readiness: Readiness) {
        self.device.handle_event(token, readiness);
        let ready = self.device.ready_queues();
        self.run(ready);
    }

    /// Whether queues wait for another turn.
    pub(super) fn has_more(&self) -> bool {
        self.again != 0
    }

    /// Gives them that turn.
    pub(super) fn run_again(&mut self) {
        let mask = std::mem::take(&mut self.again);
        self.run(mask);
    }

    /// The front end is gone.
    pub(super) fn disconnect(&mut self) {
        for index in 0..self.rings.len() {
            self.stop(index);
        }
        self.memory = None;
    }

    /// Serves the queues of `mask`, and those for which that brings work.
    fn run(&mut self, mut mask: u32) {
        let mut idle = 0;
        for _ in 0..ROUNDS {
            for index in 0..self.rings.len() {
                if mask & 1 << index == 0 {
                    continue;
                }
                // What used nothing waits for the driver, which will kick.
                if !self.process(index) {
                    idle |= 1 << index;
                }
            }
            mask = self.device.ready_queues() & !idle & !self.again;
            if mask == 0 {
                return;
            }
        }
        self.again |= mask;
    }

    /// Serves one queue for one turn; whether that used any chain.
    fn process(&mut self, index: usize) -> bool {
        let Some(memory) = &self.memory else { return false };
        let ring = &mut self.rings[index];
        if !self.active || !ring.running {
            return false;
        }
        match self.device.process(index, &mut ring.queue, memory) {
            Ok(served) => {
                if let (true, Some(call)) = (served.signal, &ring.call) {
                    // It fails only where the count is full, so that the driver is told anyway.
                    let _ = rustix::io::write(call, &1_u64.to_ne_bytes());
                }
                if served.more {
                    self.again |= 1 << index;
                }
                served.used
            }
            // The guest's own doing: the queue stays silent until the driver resets the device.
            Err(_) => {
                self.pause(index);
                false
            }
        }
    }

    /// Starts the queue once it has all it needs.
    fn start(&mut self, index: usize) -> Result<()> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let ring = &mut self.rings[index];
        let Some(kick) = &ring.kick else { return Ok(()) };
        if ring.running || !ring.enabled {
            return Ok(());
        }
        let queue = &mut ring.queue;
        queue.set_event_idx(self.features & 1 << VIRTIO_RING_F_EVENT_IDX != 0);
        queue.set_ready(true);
        if !queue.is_valid(memory) {
            queue.set_ready(false);
            return Err(Error::InvalidParam);
        }
        let used = queue.used_idx(memory, std::sync::atomic::Ordering::Acquire);
        queue.set_next_used(used.map_err(|_| Error::InvalidParam)?.0);
        let number = u32::try_from(index).expect("devices have a handful of queues");
        let token = Token::Kick(self.place, number).encode();
        self.poll.add(kick, token, Watch::Readable).map_err(Error::ReqHandlerError)?;
        ring.running = true;
        if !self.active {
            self.active = true;
            self.device.activate(self.features);
            self.notices.send(Notice::Activated);
        }
        // What came before the kick was watched has no other trigger.
        self.again |= 1 << index;
        Ok(())
    }

    /// Walks the queue no more; its state stays.
    fn pause(&mut self, index: usize) {
        let ring = &mut self.rings[index];
        if let (true, Some(kick)) = (ring.running, &ring.kick) {
            // It fails only where the descriptor is not watched, which is what is wanted.
            let _ = self.poll.remove(kick);
        }
        ring.running = false;
        self.again &= !(1 << index);
    }

    /// Forgets the queue, and with the first one all that the driver had of the device.
    fn stop(&mut self, index: usize) {
        self.pause(index);
        let ring = &mut self.rings[index];
        ring.queue.set_ready(false);
        ring.kick = None;
        ring.call = None;
        if std::mem::take(&mut self.active) {
            self.device.reset();
        }
    }

    fn ring(&mut self, index: impl Into<u32>) -> Result<(usize, &mut Ring)> {
        let index = usize::try_from(index.into()).map_err(|_| Error::InvalidParam)?;
        let ring = self.rings.get_mut(index).ok_or(Error::InvalidParam)?;
        Ok((index, ring))
    }

    /// A queue that may still be configured: once it runs, it is frozen.
    fn stopped_ring(&mut self, index: u32) -> Result<&mut Ring> {
        match self.ring(index)? {
            (_, ring) if ring.running => Err(Error::InvalidOperation("the queue runs")),
            (_, ring) => Ok(ring),
        }
    }

    fn guest_address(&self, front_end: u64) -> Result<GuestAddress> {
        self.mappings
            .iter()
            .find_map(|mapping| {
                let offset = front_end.checked_sub(mapping.front_end)?;
                (offset < mapping.length).then(|| GuestAddress(mapping.guest + offset))
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
        (0..self.rings.len()).for_each(|index| self.stop(index));
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.device.features() | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.get_features()? != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = features;
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
        self.memory = Some(Memory::from_regions(mapped).map_err(|_| Error::InvalidParam)?);
        self.mappings = mappings;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        let ring = self.stopped_ring(index)?;
        ring.queue.try_set_size(size).map_err(|_| Error::InvalidParam)
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
        let queue = &mut self.stopped_ring(index)?.queue;
        queue
            .try_set_desc_table_address(descriptor)
            .and_then(|()| queue.try_set_avail_ring_address(available))
            .and_then(|()| queue.try_set_used_ring_address(used))
            .map_err(|_| Error::InvalidParam)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.stopped_ring(index)?.queue.set_next_avail(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let (place, ring) = self.ring(index)?;
        let base = ring.queue.next_avail();
        self.stop(place);
        Ok(VhostUserVringState::new(index, base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let (place, _) = self.ring(index)?;
        self.pause(place);
        self.rings[place].kick = fd;
        self.start(place)
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.ring(index)?.1.call = fd;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _fd: Option<File>) -> Result<()> {
        self.ring(index).map(|_| ())
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
        let (place, ring) = self.ring(index)?;
        ring.enabled = enable;
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
