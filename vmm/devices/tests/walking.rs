//! Walking queues, against a model that knows the specification's words and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use husk_devices::virtio::driver::Driver;
use husk_devices::virtio::{Buffers, Chain, ChainError, Memory, Serve, serve};
use proptest::prelude::*;
use virtio_queue::QueueT;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Descriptors of the queue: few, so that random numbers meet.
const SIZE: u16 = 8;

/// Bytes of memory, from address zero.
const MEMORY: u64 = 5 << 20;

/// Where indirect tables lie, and how many descriptors they have at most.
const TABLES: [u64; 2] = [0x1_0000, 0x2_0008];
const ENTRIES: u16 = 6;

/// Bytes of a chain in one direction.
const LENGTH_MAX: u64 = 64 << 20;

/// `struct virtq_desc` (section 2.7.5).
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

/// All that a driver wrote.
#[derive(Clone, Debug)]
struct Written {
    table: Vec<Entry>,
    indirect: [Vec<Entry>; 2],
    heads: Vec<u16>,
}

fn entry() -> impl Strategy<Value = Entry> {
    let address = prop_oneof![
        6 => 0x3_0000_u64..0x3_2000,
        2 => prop::sample::select(&TABLES[..]),
        1 => prop::sample::select(vec![0, MEMORY - 16, MEMORY, u64::MAX - 15, u64::MAX]),
    ];
    let length = prop_oneof![
        6 => 0_u32..300,
        3 => (0..=u32::from(ENTRIES) + 1).prop_map(|count| 16 * count),
        1 => prop::sample::select(vec![1 << 20, (64 << 20) + 1, u32::MAX]),
    ];
    let next = prop_oneof![8 => 0..SIZE, 1 => any::<u16>()];
    (address, length, 0_u16..8, next).prop_map(|(address, length, flags, next)| Entry {
        address,
        length,
        flags,
        next,
    })
}

fn written() -> impl Strategy<Value = Written> {
    let table = prop::collection::vec(entry(), usize::from(SIZE));
    let indirect = || prop::collection::vec(entry(), usize::from(ENTRIES));
    let heads = prop::collection::vec(0..SIZE, 1..usize::from(SIZE));
    (table, indirect(), indirect(), heads).prop_map(|(table, first, second, heads)| Written {
        table,
        indirect: [first, second],
        heads,
    })
}

/// The runs of a chain in both directions, neighbours merged.
#[derive(Debug, Default, Eq, PartialEq)]
struct Walked {
    readable: Runs,
    writable: Runs,
}

/// Addresses and lengths.
#[derive(Debug, Default, Eq, PartialEq)]
struct Runs(Vec<(u64, u64)>);

impl Runs {
    fn push(&mut self, address: u64, length: u64) {
        match self.0.last_mut() {
            _ if length == 0 => {}
            Some((start, before)) if *start + *before == address => *before += length,
            _ => self.0.push((address, length)),
        }
    }

    fn length(&self) -> u64 {
        self.0.iter().map(|(_, length)| length).sum()
    }
}

/// What the model makes of a chain: where its bytes are, or why it is refused.
fn walk(written: &Written, memory: &Memory, head: u16) -> Result<Walked, ChainError> {
    let mut walked = Walked::default();
    let (mut table, mut size) = (None, SIZE);
    let (mut index, mut left, mut total) = (head, SIZE, 0_u64);
    // A chain ends where it becomes nonsense; what came before it still counts.
    while left > 0 && index < size {
        let found = match table {
            None => Some(written.table[usize::from(index)]),
            Some(base) => read_entry(memory, base, index),
        };
        let Some(entry) = found else { break };
        if entry.flags & INDIRECT != 0 {
            let count = u16::try_from(entry.length / 16);
            let (None, 0, Ok(count)) = (table, entry.length % 16, count) else { break };
            table = Some(entry.address);
            (index, size, left) = (0, count, count);
            continue;
        }
        total += u64::from(entry.length);
        if total > u64::from(u32::MAX) {
            break;
        }
        let run = match entry.flags & WRITE {
            0 if !walked.writable.0.is_empty() => return Err(ChainError::Order),
            0 => &mut walked.readable,
            _ => &mut walked.writable,
        };
        if run.length() + u64::from(entry.length) > LENGTH_MAX {
            return Err(ChainError::TooLong);
        }
        match entry.address.checked_add(entry.length.into()) {
            Some(end) if end <= MEMORY => run.push(entry.address, entry.length.into()),
            _ if entry.length == 0 => {}
            _ => return Err(ChainError::OutsideMemory),
        }
        if entry.flags & NEXT == 0 {
            break;
        }
        (index, left) = (entry.next, left - 1);
    }
    Ok(walked)
}

fn read_entry(memory: &Memory, table: u64, index: u16) -> Option<Entry> {
    let mut bytes = [0; 16];
    let place = table.checked_add(16 * u64::from(index))?;
    memory.read_slice(&mut bytes, GuestAddress(place)).ok()?;
    Some(Entry {
        address: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
        length: u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
        flags: u16::from_le_bytes(bytes[12..14].try_into().unwrap()),
        next: u16::from_le_bytes(bytes[14..].try_into().unwrap()),
    })
}

fn write_entry(memory: &Memory, table: u64, index: usize, entry: Entry) {
    let mut bytes = entry.address.to_le_bytes().to_vec();
    bytes.extend(entry.length.to_le_bytes());
    bytes.extend(entry.flags.to_le_bytes());
    bytes.extend(entry.next.to_le_bytes());
    memory.write_slice(&bytes, GuestAddress(table + 16 * index as u64)).unwrap();
}

/// Where a chain's bytes are, as the device sees them.
fn runs(memory: &Memory, buffers: &Buffers<'_>) -> Runs {
    let mut start = memory.get_slices(GuestAddress(0), 1, Permissions::Read).unwrap();
    let start = start.next().unwrap().unwrap().ptr_guard().as_ptr() as u64;
    let mut runs = Runs::default();
    for slice in buffers.slices() {
        runs.push(slice.ptr_guard().as_ptr() as u64 - start, slice.len() as u64);
    }
    runs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_chain_is_what_the_model_says_and_is_used_once(written in written()) {
        let memory = Driver::memory();
        let mut driver = Driver::with_size(&memory, Driver::RINGS, SIZE);
        for (&table, entries) in TABLES.iter().zip(&written.indirect) {
            for (index, &entry) in entries.iter().enumerate() {
                write_entry(&memory, table, index, entry);
            }
        }
        for (index, entry) in written.table.iter().enumerate() {
            let descriptor =
                Descriptor::new(entry.address, entry.length, entry.flags, entry.next);
            driver.store(u16::try_from(index).unwrap(), descriptor);
        }
        for &head in &written.heads {
            driver.offer_head(head);
        }
        let mut seen = Vec::new();
        let served = serve(&mut driver.queue, &memory, |chain| {
            let head = chain.head_index();
            let walked = Chain::collect(chain, &memory).map(|chain| Walked {
                readable: runs(&memory, &chain.readable),
                writable: runs(&memory, &chain.writable),
            });
            seen.push((head, walked));
            Serve::Done(u32::from(head))
        });
        prop_assert!(served.unwrap().used);
        let expected: Vec<_> =
            written.heads.iter().map(|&head| (head, walk(&written, &memory, head))).collect();
        prop_assert_eq!(seen, expected);
        let lengths: Vec<_> = written.heads.iter().map(|&head| u32::from(head)).collect();
        prop_assert_eq!(driver.used(), lengths);
    }
}

/// What a driver and a device do with a queue, in any order.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The driver offers so many chains, as far as there is room.
    Offer(u16),
    /// The device serves, but no more than so many chains.
    Serve(u16),
    /// The driver asks for an interrupt so many chains later.
    Ask(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..=SIZE).prop_map(Act::Offer),
        (0..=SIZE).prop_map(Act::Serve),
        (0..=SIZE).prop_map(Act::Ask),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn interrupts_come_exactly_when_the_event_index_is_passed(
        acts in prop::collection::vec(act(), 1..400),
        start in prop::sample::select(vec![0, 1, u16::MAX - 20]),
    ) {
        let memory = Driver::memory();
        let mut driver = Driver::with_size(&memory, Driver::RINGS, SIZE);
        driver.queue.set_event_idx(true);
        driver.queue.set_next_avail(start);
        driver.queue.set_next_used(start);
        driver.claim_available(start);
        driver.set_used_event(start);
        // All of them wrap, as the ring's own indices do.
        let (mut offered, mut used, mut event) = (start, start, start);
        for act in acts {
            match act {
                Act::Offer(count) => {
                    for _ in 0..count.min(SIZE - offered.wrapping_sub(used)) {
                        driver.offer_head(offered % SIZE);
                        offered = offered.wrapping_add(1);
                    }
                }
                Act::Ask(ahead) => {
                    event = used.wrapping_add(ahead);
                    driver.set_used_event(event);
                }
                Act::Serve(limit) => {
                    let waiting = offered.wrapping_sub(used);
                    let before = used;
                    let served = serve(&mut driver.queue, &memory, |_| {
                        if used.wrapping_sub(before) == limit {
                            return Serve::Stop;
                        }
                        used = used.wrapping_add(1);
                        Serve::Done(0)
                    }).unwrap();
                    let count = used.wrapping_sub(before);
                    prop_assert_eq!(count, limit.min(waiting));
                    prop_assert_eq!(served.used, count > 0);
                    prop_assert_eq!(served.signal, event.wrapping_sub(before) < count);
                    if count == waiting && limit > waiting {
                        prop_assert_eq!(driver.available_event(), offered, "a kick is wanted");
                    }
                }
            }
        }
    }
}
