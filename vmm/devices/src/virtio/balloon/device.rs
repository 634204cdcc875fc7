//! The device model.

use virtio_queue::{DescriptorChain, Queue};
use vm_memory::{GuestMemory, Permissions};

use super::request::{PageRange, inflated, reported};
use super::{Backend, Control, Statistics};
use crate::virtio::{
    Chain, Device, DeviceKind, Memory, QueueError, RING_FEATURES, Serve, Served, read_config_bytes,
    serve,
};

/// The token under which the host announces that it has changed something.
pub const CONTROL: u32 = 0;

const QUEUE_SIZE: u16 = 128;

// Feature bits (section 5.5.3).
const STATS_VQ: u64 = 1 << 1;
const DEFLATE_ON_OOM: u64 = 1 << 2;
const PAGE_REPORTING: u64 = 1 << 5;

/// Where the driver writes how large the balloon is (section 5.5.4).
const ACTUAL: u32 = 4;

/// What a balloon offers besides its size.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features {
    /// The guest reports pages that it has freed.
    pub free_page_reporting: bool,
    /// The guest tells how it uses its memory.
    pub statistics: bool,
    /// A guest that runs out of memory may take back what the balloon holds.
    pub deflate_on_oom: bool,
}

impl Features {
    fn bits(self) -> u64 {
        let bit = |wanted: bool, bit: u64| if wanted { bit } else { 0 };
        bit(self.free_page_reporting, PAGE_REPORTING)
            | bit(self.statistics, STATS_VQ)
            | bit(self.deflate_on_oom, DEFLATE_ON_OOM)
    }
}

/// What a queue carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Inflate,
    Deflate,
    Statistics,
    Reporting,
}

/// A balloon, empty at first.
pub struct Balloon<B> {
    backend: B,
    offered: u64,
    queue_sizes: Vec<u16>,
    /// Of the accepted features, in the queues' order.
    roles: Vec<Role>,
    control: Control,
    /// The target that the driver was told of.
    told_pages: u32,
}

impl<B: Backend> Balloon<B> {
    /// A balloon in that memory.
    pub fn new(backend: B, features: Features) -> Self {
        let offered = features.bits();
        Self {
            backend,
            offered,
            queue_sizes: vec![QUEUE_SIZE; roles(offered).len()],
            roles: Vec::new(),
            control: Control::default(),
            told_pages: 0,
        }
    }

    /// The host's side.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    fn inflate(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> Serve {
        if let Ok(chain) = Chain::collect(chain, memory) {
            self.discard(&inflated(&chain.readable), memory);
        }
        Serve::Done(0)
    }

    fn discard(&mut self, ranges: &[PageRange], memory: &Memory) {
        for range in ranges {
            // Where it leaves memory, the guest has given up what it never had.
            let slices = memory.get_slices(range.start, range.length, Permissions::Write);
            for slice in slices.into_iter().flatten().map_while(Result::ok) {
                // Pages that the host cannot take back stay where they are.
                let _ = self.backend.discard(&slice);
            }
        }
    }

    /// The chain stays with us until newer statistics are wanted: that is how one asks for them.
    fn take_statistics(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> Serve {
        match Chain::collect(chain, memory) {
            Ok(chain) => self.control.set_statistics(Statistics::parse(chain.readable)),
            Err(_) => return Serve::Done(0),
        }
        if self.control.take_statistics_wanted() { Serve::Done(0) } else { Serve::Stop }
    }
}

/// The queues under those features. The specification gives each a number of its own; drivers
/// count only those that are there (Linux' `vm_find_vqs`), and so does every device they meet.
fn roles(features: u64) -> Vec<Role> {
    let mut roles = vec![Role::Inflate, Role::Deflate];
    if features & STATS_VQ != 0 {
        roles.push(Role::Statistics);
    }
    if features & PAGE_REPORTING != 0 {
        roles.push(Role::Reporting);
    }
    roles
}

impl<B: Backend> Device for Balloon<B> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Balloon
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        RING_FEATURES | self.offered
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        let mut space = [0; 8];
        space[..4].copy_from_slice(&self.control.target_pages().to_le_bytes());
        space[4..].copy_from_slice(&self.control.actual_pages().to_le_bytes());
        read_config_bytes(&space, offset, data);
    }

    fn write_config(&mut self, offset: u32, data: &[u8]) {
        if let (ACTUAL, Ok(bytes)) = (offset, data.try_into()) {
            self.control.set_actual_pages(u32::from_le_bytes(bytes));
        }
    }

    fn take_config_change(&mut self) -> bool {
        let target = self.control.target_pages();
        std::mem::replace(&mut self.told_pages, target) != target
    }

    fn activate(&mut self, features: u64) {
        self.roles = roles(features & self.offered);
    }

    fn reset(&mut self) {
        self.roles.clear();
        self.control.set_actual_pages(0);
        self.control.set_statistics(Statistics::default());
    }

    fn process(
        &mut self,
        index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        let Some(&role) = self.roles.get(index) else { return Ok(Served::default()) };
        serve(queue, memory, |chain| match role {
            Role::Inflate => self.inflate(chain, memory),
            // The pages come back by being used: there is nothing to do for them.
            Role::Deflate => Serve::Done(0),
            Role::Statistics => self.take_statistics(chain, memory),
            Role::Reporting => {
                self.discard(&reported(chain), memory);
                Serve::Done(0)
            }
        })
    }

    fn ready_queues(&self) -> u32 {
        let wanted = self.control.statistics_wanted();
        let place = self.roles.iter().position(|&role| role == Role::Statistics);
        place.filter(|_| wanted).map_or(0, |place| 1 << place)
    }
}
