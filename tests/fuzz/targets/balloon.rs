//! The balloon: a guest gives up its own memory and nothing else, in whole pages.

#![no_main]

use std::io;

use arbitrary::Arbitrary;
use husk_devices::virtio::balloon::{Backend, Balloon, CONTROL, Control, Features, PAGE_LENGTH};
use husk_devices::virtio::pmem::Pmem;
use husk_devices::virtio::{Device, Readiness};
use husk_fuzz::{ACTIONS_MAX, Action, Driver, MEBIBYTE, bounded, memory};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, VolatileSlice};

#[derive(Arbitrary, Debug)]
enum Step {
    /// Whatever a driver can do.
    Driver(Action),
    /// Page numbers to inflate with.
    Inflate(Vec<u32>),
    /// Tags and values of statistics, ten bytes each.
    Statistics(Vec<(u16, u64)>),
    /// The host wants another size, or newer statistics.
    Target(u32, bool),
}

#[derive(Arbitrary, Debug)]
struct Input {
    reporting: bool,
    statistics: bool,
    deflate: bool,
    steps: Vec<Step>,
    pmem: Vec<Action>,
}

/// The host's half: every range must be whole pages of guest memory.
struct Pages;

impl Backend for Pages {
    fn discard(&mut self, slice: &VolatileSlice<'_>) -> io::Result<()> {
        let start = slice.ptr_guard().as_ptr() as u64;
        let end = start + slice.len() as u64;
        let within = memory().iter().any(|region| {
            let first = region.as_ptr() as u64;
            first <= start && end <= first + region.len()
        });
        assert!(within, "only guest memory is given back");
        assert!(start % PAGE_LENGTH == 0 && end % PAGE_LENGTH == 0, "in whole pages");
        Ok(())
    }
}

fuzz_target!(|input: Input| {
    bounded(4 * MEBIBYTE, || {
        let features = Features {
            free_page_reporting: input.reporting,
            statistics: input.statistics,
            deflate_on_oom: input.deflate,
        };
        let balloon = Balloon::new(Pages, features);
        let control = balloon.control();
        let mut driver = Driver::new(balloon);
        for step in input.steps.iter().take(ACTIONS_MAX) {
            act(&mut driver, &control, input.statistics, step);
        }
        // Persistent memory has one request, and no state: it comes along.
        let mut driver = Driver::new(Pmem::new(1 << 32, 2 * MEBIBYTE));
        for action in input.pmem.iter().take(ACTIONS_MAX) {
            driver.act(action);
        }
    });
});

fn act(driver: &mut Driver<Balloon<Pages>>, control: &Control, statistics: bool, step: &Step) {
    match step {
        Step::Driver(action) => driver.act(action),
        Step::Inflate(numbers) => {
            let bytes: Vec<u8> = numbers
                .iter()
                .take(2048)
                .flat_map(|number| (number % 0x60).to_le_bytes())
                .collect();
            offer(driver, 0, &bytes);
        }
        Step::Statistics(entries) if statistics => {
            let entry = |(tag, value): &(u16, u64)| {
                [&(tag % 10).to_le_bytes()[..], &value.to_le_bytes()[..]].concat()
            };
            let bytes: Vec<u8> = entries.iter().take(100).flat_map(entry).collect();
            offer(driver, 2, &bytes);
        }
        Step::Statistics(_) => {}
        Step::Target(pages, wanted) => {
            control.set_target_pages(*pages);
            if *wanted {
                control.request_statistics();
            }
            let readiness = Readiness { readable: true, writable: false };
            driver.device.handle_event(CONTROL, readiness);
            driver.poll();
            let mut space = [0; 4];
            driver.device.read_config(0, &mut space);
            assert_eq!(u32::from_le_bytes(space), *pages, "the driver sees the target");
        }
    }
}

fn offer(driver: &mut Driver<Balloon<Pages>>, queue: usize, bytes: &[u8]) {
    driver.memory().write_slice(bytes, GuestAddress(0x9000)).expect("memory");
    let length = u32::try_from(bytes.len()).expect("short");
    driver.offer_at(queue, &[(0x9000, length, false)]);
    driver.kick(queue);
}
