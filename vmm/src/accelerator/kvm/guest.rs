//! A running guest: its threads, and what they tell.

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Instant;

use husk_vmm_config::step;

use super::messages::{Message, Messages};
use crate::accelerator::{Counts, Ended, Guest, Progress};
use crate::backend::ConsoleOutput;
use crate::console::Console;
use crate::device_thread::{Inbox, Notice, Worker};
use crate::kvm::{Held, VcpuEnd, VcpuThread};
use crate::memory::Usage;
use crate::poll::{Poll, Watch};
use crate::timeline::Timeline;

const VCPUS: u32 = 0;
const CONSOLE: u32 = 1;

/// What a guest is made of.
pub(super) struct Parts {
    pub(super) vcpus: Vec<VcpuThread>,
    pub(super) workers: Vec<Worker>,
    pub(super) held: Arc<Held>,
    pub(super) console: ConsoleOutput,
    pub(super) inbox: Inbox,
    pub(super) messages: Messages,
    pub(super) usage: Usage,
}

/// The guest. Dropping it ends its vCPUs, then the devices' threads.
pub(super) struct KvmGuest {
    // In this order: a vCPU may wait for a device's thread, which must not end before it.
    vcpus: Vec<VcpuThread>,
    _workers: Vec<Worker>,
    /// Closing a VM waits for grace periods of the kernel's, some 15 ms. The end of this process
    /// is the end of the VM as well, and nobody waits for that.
    _held: ManuallyDrop<Arc<Held>>,
    console: ConsoleOutput,
    inbox: Inbox,
    messages: Messages,
    usage: Usage,
    timeline: Arc<Timeline>,
}

impl KvmGuest {
    pub(super) fn new(parts: Parts, timeline: Arc<Timeline>, poll: &Poll) -> io::Result<Self> {
        let Parts { vcpus, workers, held, console, inbox, messages, usage } = parts;
        let held = ManuallyDrop::new(held);
        let guest = Self {
            vcpus,
            _workers: workers,
            _held: held,
            console,
            inbox,
            messages,
            usage,
            timeline,
        };
        poll.add(&guest.messages, VCPUS.into(), Watch::Readable)?;
        poll.add(&guest.console, CONSOLE.into(), Watch::Readable)?;
        poll.add(&guest.inbox, (CONSOLE + 1).into(), Watch::Readable)?;
        Ok(guest)
    }

    fn handle_vcpus(&self, console: &mut Console) -> Progress {
        let mut progress = Progress::Nothing;
        for message in self.messages.drain() {
            let ended = match message {
                Message::Entered => {
                    progress = Progress::Started;
                    continue;
                }
                Message::Ended(VcpuEnd::Stopped) => continue,
                Message::Ended(VcpuEnd::Reset) => Ended::Guest,
                Message::Ended(VcpuEnd::Failed(error)) => Ended::Failed(error),
            };
            // The driver waits until the console has taken its lines: what came before the end
            // is there.
            self.console.drain(console);
            return Progress::Ended(ended);
        }
        progress
    }

    fn handle_notices(&self) -> Progress {
        for notice in self.inbox.drain() {
            match notice {
                Notice::Reached => {}
                Notice::Activated => self.timeline.mark(step::DRIVER),
                Notice::Failed(error) => return Progress::Ended(Ended::Failed(error)),
            }
        }
        Progress::Nothing
    }
}

impl Guest for KvmGuest {
    fn handle(&mut self, token: u32, console: &mut Console) -> Progress {
        match token {
            VCPUS => return self.handle_vcpus(console),
            CONSOLE => self.console.drain(console),
            _ => return self.handle_notices(),
        }
        Progress::Nothing
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn handle_deadline(&mut self, _console: &mut Console) -> Progress {
        Progress::Nothing
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts { memory: self.usage.measure(), ..Counts::default() };
        for vcpu in &self.vcpus {
            vcpu.counters().add_to(&mut counts.exits);
        }
        counts
    }
}

impl Drop for KvmGuest {
    fn drop(&mut self) {
        // All at once; each is then waited for.
        for vcpu in &self.vcpus {
            vcpu.stop();
        }
    }
}
