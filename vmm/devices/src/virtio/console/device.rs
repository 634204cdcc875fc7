//! The device model.

use virtio_queue::{DescriptorChain, Queue};

use super::Backend;
use crate::virtio::{
    Chain, Device, DeviceKind, Memory, QueueError, RING_FEATURES, Serve, Served, read_config_bytes,
    serve,
};

const QUEUE_SIZE: u16 = 64;

/// What the host writes and the driver receives.
const RECEIVE: usize = 0;

/// What the guest writes.
const TRANSMIT: usize = 1;

/// Bytes that move at once.
const PIECE: usize = 4096;

/// Bytes of one chain that count: drivers write a page at most, and the rest is nobody's loss.
const OUTPUT_LENGTH_MAX: usize = 64 << 10;

/// `struct virtio_console_config`: columns, rows, ports, emergency write; nothing of it is used
/// without the features that announce it.
const CONFIG: [u8; 12] = [0; 12];

/// A console with one port.
pub struct Console<B> {
    backend: B,
    /// Output waits until the backend takes more.
    stalled: bool,
}

impl<B: Backend> Console<B> {
    /// A console whose other end is `backend`.
    pub fn new(backend: B) -> Self {
        Self { backend, stalled: false }
    }

    /// Fills a chain with what was typed.
    fn receive(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> Serve {
        if !self.backend.is_readable() {
            return Serve::Stop;
        }
        let Ok(Chain { mut writable, .. }) = Chain::collect(chain, memory) else {
            return Serve::Done(0);
        };
        let mut bytes = [0; PIECE];
        let room = writable.len().min(PIECE);
        let count = self.backend.read(&mut bytes[..room]).min(room);
        match writable.write(&bytes[..count]) {
            Ok(()) => Serve::Done(u32::try_from(count).expect("a piece is bounded")),
            Err(_) => Serve::Done(0),
        }
    }

    /// Passes a chain on.
    fn transmit(&mut self, chain: DescriptorChain<&Memory>, memory: &Memory) -> Serve {
        if !self.backend.is_writable() {
            self.stalled = true;
            return Serve::Stop;
        }
        let Ok(Chain { mut readable, .. }) = Chain::collect(chain, memory) else {
            return Serve::Done(0);
        };
        readable.truncate(OUTPUT_LENGTH_MAX.min(readable.len()));
        let mut bytes = [0; PIECE];
        while !readable.is_empty() {
            let count = readable.len().min(PIECE);
            let Ok(front) = readable.take(count) else { break };
            front.copy_to(&mut bytes);
            self.backend.write(&bytes[..count]);
        }
        Serve::Done(0)
    }
}

impl<B: Backend> Device for Console<B> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Console
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        read_config_bytes(&CONFIG, offset, data);
    }

    fn process(
        &mut self,
        index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        if index == RECEIVE {
            return serve(queue, memory, |chain| self.receive(chain, memory));
        }
        self.stalled = false;
        serve(queue, memory, |chain| self.transmit(chain, memory))
    }

    fn reset(&mut self) {
        self.stalled = false;
    }

    /// After any event, as none of them says more.
    fn ready_queues(&self) -> u32 {
        let transmit = self.stalled && self.backend.is_writable();
        u32::from(self.backend.is_readable()) << RECEIVE | u32::from(transmit) << TRANSMIT
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::virtio::console::Ring;
    use crate::virtio::driver::Driver;

    #[derive(Clone)]
    struct Terminal {
        shown: Arc<Mutex<Ring>>,
        typed: Vec<u8>,
        /// Bytes that it takes before it is full.
        room: Arc<AtomicUsize>,
    }

    impl Terminal {
        fn new(typed: &[u8]) -> Self {
            Self {
                shown: Arc::new(Mutex::new(Ring::new(64))),
                typed: typed.to_vec(),
                room: Arc::new(AtomicUsize::new(usize::MAX)),
            }
        }
    }

    impl Backend for Terminal {
        fn write(&mut self, bytes: &[u8]) {
            self.shown.lock().unwrap().push(bytes);
            let room = self.room.load(Ordering::Relaxed);
            self.room.store(room.saturating_sub(bytes.len()), Ordering::Relaxed);
        }

        fn is_writable(&self) -> bool {
            self.room.load(Ordering::Relaxed) > 0
        }

        fn read(&mut self, bytes: &mut [u8]) -> usize {
            let count = bytes.len().min(self.typed.len());
            bytes[..count].copy_from_slice(&self.typed[..count]);
            self.typed.drain(..count);
            count
        }

        fn is_readable(&self) -> bool {
            !self.typed.is_empty()
        }
    }

    #[test]
    fn what_the_guest_writes_is_shown() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        memory.write_slice(b"hello world", GuestAddress(0x1000)).unwrap();
        driver.offer(&[(0x1000, 6, false)]);
        driver.offer(&[(0x1006, 2, false), (0x1008, 3, false)]);
        let terminal = Terminal::new(b"");
        let shown = terminal.shown.clone();
        let served = Console::new(terminal).process(1, &mut driver.queue, &memory).unwrap();
        assert_eq!(served, Served { used: true, signal: true, more: false });
        assert_eq!(driver.used(), [0, 0]);
        assert_eq!(shown.lock().unwrap().text(), "hello world");
    }

    #[test]
    fn output_without_end_stays_bounded() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        for _ in 0..32 {
            driver.offer(&[(0x1000, 1 << 20, false)]);
        }
        let terminal = Terminal::new(b"");
        let shown = terminal.shown.clone();
        let _ = Console::new(terminal).process(1, &mut driver.queue, &memory).unwrap();
        let shown = shown.lock().unwrap();
        assert_eq!(shown.dropped(), 32 * (64 << 10) - 64);
    }

    #[test]
    fn output_waits_while_nobody_takes_it_and_none_of_it_is_lost() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        memory.write_slice(b"one two ", GuestAddress(0x1000)).unwrap();
        driver.offer(&[(0x1000, 4, false)]);
        driver.offer(&[(0x1004, 4, false)]);
        let terminal = Terminal::new(b"");
        let (shown, room) = (terminal.shown.clone(), terminal.room.clone());
        room.store(1, Ordering::Relaxed);
        let mut console = Console::new(terminal);
        let _ = console.process(TRANSMIT, &mut driver.queue, &memory).unwrap();
        assert_eq!((driver.used().len(), console.ready_queues()), (1, 0));
        room.store(100, Ordering::Relaxed);
        assert_eq!(console.ready_queues(), 1 << TRANSMIT);
        let _ = console.process(TRANSMIT, &mut driver.queue, &memory).unwrap();
        assert_eq!((driver.used().len(), console.ready_queues()), (1, 0));
        assert_eq!(shown.lock().unwrap().text(), "one two ");
    }

    #[test]
    fn what_is_typed_reaches_the_guest_in_order() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer(&[(0x1000, 4, true)]);
        driver.offer(&[(0x2000, 64, true)]);
        driver.offer(&[(0x3000, 64, true)]);
        let mut console = Console::new(Terminal::new(b"exit 7\n"));
        assert_eq!(console.ready_queues(), 1);
        let _ = console.process(0, &mut driver.queue, &memory).unwrap();
        assert_eq!(driver.used(), [4, 3]);
        let mut bytes = [0; 4];
        memory.read_slice(&mut bytes, GuestAddress(0x1000)).unwrap();
        assert_eq!(&bytes, b"exit");
        assert_eq!(console.ready_queues(), 0);
    }

    #[test]
    fn buffers_wait_until_something_is_typed() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer(&[(0x1000, 4, true)]);
        let served = Console::new(Terminal::new(b"")).process(0, &mut driver.queue, &memory);
        assert_eq!(served.unwrap(), Served::default());
        assert!(driver.used().is_empty());
    }

    #[test]
    fn nonsense_is_given_back() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer(&[(1 << 40, 4, true)]);
        driver.offer(&[(0x1000, 4, false)]);
        let mut console = Console::new(Terminal::new(b"typed"));
        let _ = console.process(0, &mut driver.queue, &memory).unwrap();
        assert_eq!(driver.used(), [0, 0]);
        driver.offer(&[(1 << 40, 4, false)]);
        driver.offer(&[(0x1000, u32::MAX, false)]);
        let _ = console.process(1, &mut driver.queue, &memory).unwrap();
        assert_eq!(driver.used(), [0, 0]);
    }
}
