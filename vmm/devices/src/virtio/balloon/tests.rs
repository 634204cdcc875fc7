//! A driver that inflates, deflates, tells and reports, soundly and not.

use std::io;
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions, VolatileSlice};

use super::*;
use crate::virtio::driver::Driver;
use crate::virtio::{Device, Memory};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORTING: usize = 3;

const DATA: u64 = 0x1000;

/// No chain was used.
const NONE: [u32; 0] = [];

/// Remembers host addresses and lengths.
#[derive(Clone, Default)]
struct Discarded(Arc<Mutex<Vec<(usize, usize)>>>);

impl Backend for Discarded {
    fn discard(&mut self, memory: &VolatileSlice<'_>) -> io::Result<()> {
        let start = memory.ptr_guard().as_ptr().addr();
        self.0.lock().unwrap().push((start, memory.len()));
        Ok(())
    }
}

struct Setting<'m> {
    memory: &'m Memory,
    driver: Driver<'m>,
    balloon: Balloon<Discarded>,
    discarded: Discarded,
}

impl<'m> Setting<'m> {
    fn new(memory: &'m Memory) -> Self {
        let discarded = Discarded::default();
        let all = Features { free_page_reporting: true, statistics: true, deflate_on_oom: true };
        let mut balloon = Balloon::new(discarded.clone(), all);
        balloon.activate(balloon.features());
        Self { memory, driver: Driver::new(memory), balloon, discarded }
    }

    /// Offers a chain on the queue of that index; returns the lengths used.
    fn offer(&mut self, index: usize, parts: &[(u64, u32, bool)]) -> Vec<u32> {
        self.driver.offer(parts);
        self.process(index)
    }

    fn process(&mut self, index: usize) -> Vec<u32> {
        let _ = self.balloon.process(index, &mut self.driver.queue, self.memory).unwrap();
        self.driver.used()
    }

    /// What was discarded since the last call, as guest addresses and lengths.
    fn discarded(&self) -> Vec<(u64, usize)> {
        let base = base(self.memory);
        let list = std::mem::take(&mut *self.discarded.0.lock().unwrap());
        list.into_iter().map(|(start, length)| ((start - base) as u64, length)).collect()
    }
}

/// Where the memory begins on the host.
fn base(memory: &Memory) -> usize {
    let mut slices = memory.get_slices(GuestAddress(0), 1, Permissions::Read).unwrap();
    slices.next().unwrap().unwrap().ptr_guard().as_ptr().addr()
}

fn write_pages(memory: &Memory, pages: &[u32]) -> u32 {
    let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    memory.write_slice(&bytes, GuestAddress(DATA)).unwrap();
    u32::try_from(bytes.len()).unwrap()
}

fn write_statistics(memory: &Memory, entries: &[(u16, u64)]) -> u32 {
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat())
        .collect();
    memory.write_slice(&bytes, GuestAddress(DATA)).unwrap();
    u32::try_from(bytes.len()).unwrap()
}

#[test]
fn what_is_offered_is_what_was_asked_for() {
    let balloon = |features| Balloon::new(Discarded::default(), features);
    let none = balloon(Features::default());
    assert_eq!((none.features() & 0xff_ffff, none.queue_sizes().len()), (0, 2));
    let reporting =
        balloon(Features { free_page_reporting: true, deflate_on_oom: true, statistics: false });
    assert_eq!((reporting.features() & 0xff_ffff, reporting.queue_sizes().len()), (0x24, 3));
}

#[test]
fn inflating_discards_the_pages_and_deflating_nothing() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let length = write_pages(&memory, &[0x102, 0x100, 0x101, 0x200]);
    assert_eq!(setting.offer(INFLATE, &[(DATA, length, false)]), [0]);
    assert_eq!(setting.discarded(), [(0x10_0000, 0x3000), (0x20_0000, 0x1000)]);
    // Split in the middle of a number, and with half of one at the end.
    let parts = [(DATA, 6, false), (DATA + 6, length - 8, false)];
    assert_eq!(setting.offer(INFLATE, &parts), [0]);
    assert_eq!(setting.discarded(), [(0x10_0000, 0x3000)]);
    assert_eq!(setting.offer(DEFLATE, &[(DATA, length, false)]), [0]);
    assert_eq!(setting.discarded(), []);
}

#[test]
fn pages_outside_memory_are_passed_over() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    // Memory ends at 5 MiB, page 0x500.
    let length = write_pages(&memory, &[u32::MAX, 0x500, 0x4ff, 0xd_0000]);
    assert_eq!(setting.offer(INFLATE, &[(DATA, length, false)]), [0]);
    assert!(setting.discarded().iter().all(|&(start, length)| start + length as u64 <= 5 << 20));
    for parts in [
        &[(DATA, 0, false)][..],
        &[(DATA, u32::MAX, false)],
        &[(1 << 40, 4, false)],
        &[(DATA, 4, true), (DATA, 4, false)],
        &[(DATA, 3, false)],
    ] {
        assert_eq!(setting.offer(INFLATE, parts), [0]);
        assert_eq!(setting.discarded(), []);
    }
}

#[test]
fn a_request_of_a_million_pages_costs_what_a_thousand_cost() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    // Every page number is 0x2000_0000 + something outside memory, but for the first.
    let length = write_pages(&memory, &[0x100]);
    setting.driver.offer(&[(DATA, length, false), (0x10_0000, 3 << 20, false)]);
    assert_eq!(setting.process(INFLATE), [0]);
    // Untouched memory is zeros: page 0, again and again.
    assert_eq!(setting.discarded(), [(0, 0x1000), (0x10_0000, 0x1000)]);
    setting.driver.offer_loop(DATA, 4);
    assert_eq!(setting.process(INFLATE), [0]);
}

#[test]
fn reported_ranges_are_discarded_as_far_as_they_are_memory() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let parts = [(0x20_0000, 0x20_0000, true), (0x10_0001, 0x2000, true)];
    assert_eq!(setting.offer(REPORTING, &parts), [0]);
    assert_eq!(setting.discarded(), [(0x20_0000, 0x20_0000), (0x10_1000, 0x1000)]);
    // Over the end of memory, in a hole, readable, empty, and huge.
    for parts in [
        &[(0xd000_0000, 0x1000, true)][..],
        &[(0x10_0000, 0x1000, false)],
        &[(0x10_0000, 0, true)],
        &[(u64::MAX - 0x1000, 0x1000, true)],
        &[(1 << 40, u32::MAX, true)],
    ] {
        assert_eq!(setting.offer(REPORTING, parts), [0], "{parts:?}");
        assert_eq!(setting.discarded(), [], "{parts:?}");
    }
    assert_eq!(setting.offer(REPORTING, &[(0x4f_f000, u32::MAX, true)]), [0]);
    assert!(setting.discarded().iter().all(|&(start, length)| start + length as u64 <= 5 << 20));
    setting.driver.offer_indirect_loop(0x2000, 2000);
    assert_eq!(setting.process(REPORTING), [0]);
}

#[test]
fn statistics_are_kept_until_newer_ones_are_wanted() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let control = setting.balloon.control();
    let length = write_statistics(&memory, &[(4, 100), (5, 200), (99, 1), (4, 150)]);
    assert_eq!(setting.offer(STATISTICS, &[(DATA, length, false)]), NONE, "the buffer stays");
    let expected = Statistics { free: Some(150), total: Some(200), ..Statistics::default() };
    assert_eq!(control.statistics(), expected);
    assert_eq!(setting.balloon.ready_queues(), 0);

    control.request_statistics();
    assert_eq!(setting.balloon.ready_queues(), 1 << STATISTICS);
    assert_eq!(setting.process(STATISTICS), [0], "the buffer goes back");
    assert_eq!(setting.balloon.ready_queues(), 0);
    let length = write_statistics(&memory, &[(4, 50)]);
    assert_eq!(setting.offer(STATISTICS, &[(DATA, length, false)]), NONE);
    assert_eq!(control.statistics().free, Some(50));
    setting.balloon.reset();
    assert_eq!(control.statistics(), Statistics::default());
}

#[test]
fn absurd_statistics_are_cut_short() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let control = setting.balloon.control();
    let mut entries = vec![(0, 1); 64];
    entries.push((0, 2));
    write_statistics(&memory, &entries);
    assert_eq!(setting.offer(STATISTICS, &[(DATA, 3 << 20, false)]), NONE);
    assert_eq!(control.statistics().swap_in, Some(1), "the 65th entry is not read");
    control.request_statistics();
    assert_eq!(setting.process(STATISTICS), [0]);
    assert_eq!(setting.offer(STATISTICS, &[(DATA, u32::MAX, false)]), [0]);
    assert_eq!(setting.offer(STATISTICS, &[(DATA, 9, false)]), NONE);
    assert_eq!(control.statistics(), Statistics::default(), "half an entry is none");
}

#[test]
fn the_driver_hears_of_a_new_size_once() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    let control = setting.balloon.control();
    assert!(!setting.balloon.take_config_change());
    control.set_target_pages(256);
    assert!(setting.balloon.take_config_change() && !setting.balloon.take_config_change());
    setting.balloon.write_config(4, &77_u32.to_le_bytes());
    setting.balloon.write_config(0, &1_u32.to_le_bytes());
    setting.balloon.write_config(4, &[1]);
    let mut space = [0; 8];
    setting.balloon.read_config(0, &mut space);
    assert_eq!(space, [0, 1, 0, 0, 77, 0, 0, 0]);
    assert_eq!(control.actual_pages(), 77);
}

#[test]
fn the_queues_are_those_of_the_accepted_features() {
    let memory = Driver::memory();
    let mut setting = Setting::new(&memory);
    setting.balloon.reset();
    setting.balloon.activate(setting.balloon.features() & !(1 << 1));
    // Without statistics, reporting moves up.
    assert_eq!(setting.offer(STATISTICS, &[(0x20_0000, 0x1000, true)]), [0]);
    assert_eq!(setting.discarded(), [(0x20_0000, 0x1000)]);
    assert_eq!(
        setting.offer(REPORTING, &[(0x20_0000, 0x1000, true)]),
        NONE,
        "there is no such queue"
    );
}
