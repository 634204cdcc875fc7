//! The device model: no configuration, one queue of buffers to fill.

use virtio_queue::{DescriptorChain, Queue};

use super::Backend;
use crate::virtio::{
    Chain, Device, DeviceKind, Memory, QueueError, RING_FEATURES, Serve, Served, serve,
};

const QUEUE_SIZE: u16 = 64;

/// Bytes that one request receives at most: the guest asks for the length, so the host must bound
/// the work. The driver takes a shorter answer and asks again.
const REQUEST_LENGTH_MAX: usize = 64 << 10;

/// An entropy source for the guest.
pub struct Rng<B> {
    backend: B,
}

impl<B: Backend> Rng<B> {
    /// A device that passes on what `backend` has.
    pub fn new(backend: B) -> Self {
        Self { backend }
    }

    fn fill(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> u32 {
        let Ok(Chain { mut writable, .. }) = Chain::collect(chain, memory) else { return 0 };
        writable.truncate(REQUEST_LENGTH_MAX.min(writable.len()));
        let mut written = 0;
        let mut bytes = [0; 4096];
        while !writable.is_empty() {
            let count = writable.len().min(bytes.len());
            if self.backend.fill(&mut bytes[..count]).is_err()
                || writable.write(&bytes[..count]).is_err()
            {
                break;
            }
            written += count;
        }
        u32::try_from(written).expect("a request is bounded")
    }
}

impl<B: Backend> Device for Rng<B> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn process(
        &mut self,
        _index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        serve(queue, memory, |chain| Serve::Done(self.fill(chain, memory)))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::virtio::driver::Driver;

    struct Sevens;

    impl Backend for Sevens {
        fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
            bytes.fill(7);
            Ok(())
        }
    }

    struct Broken;

    impl Backend for Broken {
        fn fill(&mut self, _bytes: &mut [u8]) -> io::Result<()> {
            Err(io::ErrorKind::Other.into())
        }
    }

    fn request(backend: impl Backend, parts: &[(u64, u32, bool)]) -> (Vec<u32>, Memory) {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer(parts);
        let served = Rng::new(backend).process(0, &mut driver.queue, &memory).unwrap();
        assert!(served.signal);
        let used = driver.used();
        (used, memory)
    }

    #[test]
    fn the_buffers_are_filled_and_nothing_behind_them() {
        let (used, memory) = request(Sevens, &[(0x1000, 5000, true), (0x9000, 3, true)]);
        assert_eq!(used, [5003]);
        for (place, expected) in [(0x1000, 7), (0x1000 + 4999, 7), (0x1000 + 5000, 0), (0x9002, 7)]
        {
            assert_eq!(memory.read_obj::<u8>(GuestAddress(place)).unwrap(), expected);
        }
    }

    #[test]
    fn a_request_of_megabytes_receives_64_kib() {
        let (used, _) = request(Sevens, &[(0x1000, 2 << 20, true)]);
        assert_eq!(used, [65_536]);
    }

    #[test]
    fn nonsense_receives_nothing_and_is_given_back() {
        assert_eq!(request(Sevens, &[(0x1000, 8, false)]).0, [0]);
        assert_eq!(request(Sevens, &[(0x1000, 0, true)]).0, [0]);
        assert_eq!(request(Sevens, &[(1 << 40, 8, true)]).0, [0]);
        assert_eq!(request(Sevens, &[(0x1000, u32::MAX, true)]).0, [0]);
        assert_eq!(request(Broken, &[(0x1000, 8, true)]).0, [0]);
    }
}
