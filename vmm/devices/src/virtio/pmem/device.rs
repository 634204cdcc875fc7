//! The device model: a place in the configuration space, and one queue of flush requests.

use virtio_queue::{DescriptorChain, Queue};

use crate::virtio::{
    Chain, Device, DeviceKind, Memory, QueueError, RING_FEATURES, Serve, Served, read_config_bytes,
    serve,
};

const QUEUE_SIZE: u16 = 64;

/// The one request there is: make all writes durable (section 5.19.6).
const REQUEST_FLUSH: u32 = 0;

/// The answers (section 5.19.6.1).
const SUCCESS: u32 = 0;
const FAILURE: u32 = 1;

/// Persistent memory at a place of its own.
#[derive(Clone, Copy, Debug)]
pub struct Pmem {
    config: [u8; 16],
}

impl Pmem {
    /// Memory of `length` bytes at the guest address `start`, both multiples of what the guest
    /// maps at once.
    pub fn new(start: u64, length: u64) -> Self {
        let mut config = [0; 16];
        config[..8].copy_from_slice(&start.to_le_bytes());
        config[8..].copy_from_slice(&length.to_le_bytes());
        Self { config }
    }
}

/// Answers one request: nothing was written, so that all of it is durable.
fn answer(chain: DescriptorChain<&Memory>, memory: &Memory) -> u32 {
    let Ok(Chain { mut readable, mut writable }) = Chain::collect(chain, memory) else { return 0 };
    let answer = match readable.read().map(u32::from_le_bytes) {
        Ok(REQUEST_FLUSH) => SUCCESS,
        _ => FAILURE,
    };
    writable.write(&answer.to_le_bytes()).map_or(0, |()| 4)
}

impl Device for Pmem {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Pmem
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        read_config_bytes(&self.config, offset, data);
    }

    fn process(
        &mut self,
        _index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        serve(queue, memory, |chain| Serve::Done(answer(chain, memory)))
    }
}
