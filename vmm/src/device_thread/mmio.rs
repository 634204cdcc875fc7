//! A device that the guest reaches through virtio-mmio.

use std::io;
use std::sync::Arc;

use husk_devices::Interrupt;
use husk_devices::mmio::Transport;
use husk_devices::virtio::{Device, Memory, Ran, Readiness};

use super::{Endpoint, Line, Notices, Token};
use crate::poll::{Poll, Watch};

/// The device thread's half of such a device.
pub(crate) struct MmioDevice {
    transport: Arc<Transport>,
    place: usize,
    kicks: Vec<Line>,
    /// The transport's way to this thread.
    bell: Line,
    poll: Arc<Poll>,
}

impl MmioDevice {
    /// A device in `place` of its group, whose loop is `poll`. Its queues lie in `memory`, and
    /// its interrupts go out on `interrupt`.
    pub(crate) fn new(
        device: Box<dyn Device>,
        place: usize,
        poll: Arc<Poll>,
        memory: Memory,
        interrupt: Box<dyn Interrupt>,
    ) -> io::Result<Self> {
        let bell = Line::new()?;
        let transport = Transport::new(device, memory, interrupt, Box::new(bell.clone()));
        let transport = Arc::new(transport.map_err(io::Error::other)?);
        poll.add(&bell, Token::Transport(place).encode(), Watch::Readable)?;
        let mut kicks = Vec::with_capacity(transport.queue_count());
        for queue in 0..transport.queue_count() {
            let kick = Line::new()?;
            poll.add(&kick, kick_token(place, queue), Watch::Readable)?;
            kicks.push(kick);
        }
        Ok(Self { transport, place, kicks, bell, poll })
    }

    /// The vCPUs' half, for the bus.
    pub(crate) fn transport(&self) -> Arc<Transport> {
        self.transport.clone()
    }

    /// For each queue in order, what is to be raised when its index is written to
    /// [`QUEUE_NOTIFY`](husk_devices::mmio::QUEUE_NOTIFY).
    pub(crate) fn kicks(&self) -> &[Line] {
        &self.kicks
    }
}

impl Endpoint for MmioDevice {
    fn kick(&mut self, queue: u32) -> Ran {
        match self.kicks.get(queue as usize) {
            Some(kick) if kick.take() => self.transport.kick(queue),
            _ => Ran::default(),
        }
    }

    fn handle_event(&mut self, token: u32, readiness: Readiness) -> Ran {
        self.transport.handle_event(token, readiness)
    }

    /// What it wants shows in [`has_more`](Endpoint::has_more).
    fn handle_transport(&mut self, _notices: &Notices) {
        self.bell.take();
    }

    fn has_more(&self) -> bool {
        self.transport.has_more()
    }

    fn run_again(&mut self) -> Ran {
        self.transport.run_again()
    }

    fn listen(&mut self, queue: u32, listen: bool) {
        let Some(kick) = self.kicks.get(queue as usize) else { return };
        // It fails only where nothing had to be done.
        let _ = if listen {
            self.poll.add(kick, kick_token(self.place, queue as usize), Watch::Readable)
        } else {
            self.poll.remove(kick)
        };
    }
}

fn kick_token(place: usize, queue: usize) -> u64 {
    let queue = u32::try_from(queue).expect("devices have a handful of queues");
    Token::Kick(place, queue).encode()
}
