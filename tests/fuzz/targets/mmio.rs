//! The register window of every device: any access at any time, with queues that work in between.

#![no_main]

#[expect(dead_code, reason = "the device tests use more of it")]
#[path = "../../../vmm/devices/tests/hostile/guest.rs"]
mod guest;

use std::collections::VecDeque;
use std::io;

use arbitrary::Arbitrary;
use husk_devices::virtio::balloon::{self, Balloon};
use husk_devices::virtio::block::{Block, Segments};
use husk_devices::virtio::console::{self, Console};
use husk_devices::virtio::net::{self, Net};
use husk_devices::virtio::pmem::Pmem;
use husk_devices::virtio::rng::{self, Rng};
use husk_devices::virtio::vsock::Vsock;
use husk_devices::virtio::{Device, Readiness};
use husk_fuzz::{ACTIONS_MAX, Disk, MEBIBYTE, SocketHost, bounded};
use libfuzzer_sys::fuzz_target;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

use guest::{Guest, memory, status};

/// Registers that mean something; others are reached by [`Step::Access`].
const REGISTERS: [u64; 20] = [
    0x00, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70, 0x80, 0x84, 0x90,
    0x94, 0xa0, 0xa4, 0xfc,
];

#[derive(Arbitrary, Debug)]
enum Step {
    /// A register is written, with a small number or any.
    Small(u8, u8),
    Any(u8, u32),
    /// A read or write of any width at any offset.
    Access {
        offset: u16,
        width: u8,
        value: [u8; 4],
        write: bool,
    },
    /// The way up to a stage, from a reset.
    Climb(u8),
    /// A live device.
    BringUp,
    /// A queue is described to the device.
    Place {
        queue: u8,
        size: u8,
        places: [u16; 3],
    },
    /// A chain is offered.
    Offer {
        queue: u8,
        parts: Vec<(u32, u16, bool)>,
    },
    /// Any descriptor, offered.
    Descriptor {
        queue: u8,
        address: u32,
        length: u32,
        flags: u8,
        next: u8,
    },
    /// The available ring is said to have come so far.
    Claim(u8, u16),
    /// Bytes anywhere near the rings.
    Poke(u16, [u8; 8]),
    /// A kick, as the device thread hears it.
    Kick(u8),
    /// The device thread works on.
    Run,
    /// Something is ready.
    Event(u8, bool, bool),
}

#[derive(Arbitrary, Debug)]
struct Input {
    device: u8,
    steps: Vec<Step>,
}

fuzz_target!(|input: Input| {
    bounded(4 * MEBIBYTE, || {
        let mut guest = Guest::new(device(input.device), memory());
        for step in input.steps.iter().take(ACTIONS_MAX) {
            act(&mut guest, step);
        }
        // Whatever was done, a reset gives a device that comes up.
        guest.bring_up();
        assert_eq!(guest.status(), status::LIVE);
    });
});

fn device(choice: u8) -> Box<dyn Device> {
    match choice % 8 {
        0 => block(true),
        1 => block(false),
        2 => Box::new(Rng::new(Sevens)),
        3 => Box::new(Console::new(Typist(b"exit\n".to_vec().into()))),
        4 => Box::new(Vsock::new(SocketHost::default(), 3)),
        5 => Box::new(Net::new(Tap, [2, 0, 0, 0, 0, 1], 1500)),
        6 => Box::new(Balloon::new(Pages, FEATURES)),
        _ => Box::new(Pmem::new(1 << 32, 2 * MEBIBYTE)),
    }
}

fn block(read_only: bool) -> Box<dyn Device> {
    let (_, segments) = Disk::new(&[3, 5], 700, read_only);
    Box::new(Block::new(Segments::new(segments).expect("two segments"), "fuzz", read_only))
}

fn act(guest: &mut Guest, step: &Step) {
    match step {
        Step::Small(register, value) => guest.write(named(*register), (*value).into()),
        Step::Any(register, value) => guest.write(named(*register), *value),
        Step::Access { offset, width, value, write } => {
            let (offset, width) = (u64::from(offset % 0x1010), usize::from(width % 5));
            if *write {
                guest.transport.write(offset, &value[..width]);
            } else {
                guest.transport.read(offset, &mut [0; 4][..width]);
            }
        }
        Step::Climb(stage) => {
            guest.reset();
            guest.climb(usize::from(stage % 5));
        }
        Step::BringUp => guest.bring_up(),
        Step::Place { queue, size, places } => {
            let index = usize::from(queue % 4);
            let [table, available, used] = places.map(|place| guest::RINGS + u64::from(place));
            guest.place(index, (*size).into(), table, available, used);
        }
        Step::Offer { queue, parts } => {
            let index = usize::from(*queue) % guest.queue_count();
            let parts: Vec<_> = parts
                .iter()
                .take(16)
                .map(|&(address, length, writable)| (address.into(), length.into(), writable))
                .collect();
            if guest.size(index) > 0 {
                guest.offer(index, &parts);
            }
        }
        Step::Descriptor { queue, address, length, flags, next } => {
            let index = usize::from(*queue) % guest.queue_count();
            if guest.size(index) > 0 {
                let descriptor = Descriptor::new(
                    (*address).into(),
                    *length,
                    u16::from(*flags) & 7,
                    (*next).into(),
                );
                guest.store(index, 0, descriptor);
                guest.offer_head(index, 0);
            }
        }
        Step::Claim(queue, count) => guest.claim(usize::from(queue % 4), *count),
        Step::Poke(place, bytes) => {
            let place = GuestAddress(guest::RINGS + u64::from(*place));
            guest.memory.write_slice(bytes, place).expect("it is in memory");
        }
        Step::Kick(queue) => {
            let _ = guest.transport.kick((*queue).into());
        }
        Step::Run => guest.serve(),
        Step::Event(token, readable, writable) => {
            let token = if *token == u8::MAX { u32::MAX } else { u32::from(*token) };
            let readiness = Readiness { readable: *readable, writable: *writable };
            let _ = guest.transport.handle_event(token, readiness);
        }
    }
}

fn named(register: u8) -> u64 {
    REGISTERS[usize::from(register) % REGISTERS.len()]
}

/// A tap with nothing to read, that takes everything.
struct Tap;

impl net::Backend for Tap {
    fn read(&mut self, _buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, _buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
        Ok(())
    }

    fn set_offload(&mut self, _offload: net::Offload) -> io::Result<()> {
        Ok(())
    }
}

const FEATURES: balloon::Features =
    balloon::Features { free_page_reporting: true, statistics: true, deflate_on_oom: true };

struct Pages;

impl balloon::Backend for Pages {
    fn discard(&mut self, _memory: &VolatileSlice<'_>) -> io::Result<()> {
        Ok(())
    }
}

struct Sevens;

impl rng::Backend for Sevens {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(7);
        Ok(())
    }
}

struct Typist(VecDeque<u8>);

impl console::Backend for Typist {
    fn write(&mut self, _bytes: &[u8]) {}

    fn read(&mut self, bytes: &mut [u8]) -> usize {
        let count = bytes.len().min(self.0.len());
        for (place, byte) in bytes.iter_mut().zip(self.0.drain(..count)) {
            *place = byte;
        }
        count
    }

    fn is_readable(&self) -> bool {
        !self.0.is_empty()
    }
}
