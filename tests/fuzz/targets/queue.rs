//! Walking a virtqueue: chains as the driver offered them come out as it offered them, and rings
//! of any content end.

#![no_main]

use husk_devices::virtio::{
    Buffers, Chain, ChainError, Device, DeviceKind, Memory, QueueError, RING_FEATURES, Readiness,
    Serve, Served, serve,
};
use husk_fuzz::{ACTIONS_MAX, Action, Driver, MEBIBYTE, Part, bounded};
use libfuzzer_sys::fuzz_target;
use virtio_queue::Queue;

/// A device that looks at every chain and keeps what it has seen of the last.
#[derive(Default)]
struct Looker {
    last: Option<Result<(usize, usize), ChainError>>,
    chains: usize,
    /// Every so many chains it asks for time.
    stops: usize,
}

impl Device for Looker {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn queue_sizes(&self) -> &[u16] {
        &[128, 1, 64]
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn read_config(&self, _offset: u32, data: &mut [u8]) {
        data.fill(0);
    }

    fn write_config(&mut self, _offset: u32, _data: &[u8]) {}

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {}

    fn process(
        &mut self,
        _index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<Served, QueueError> {
        serve(queue, memory, |chain| {
            self.chains += 1;
            if self.stops > 0 && self.chains % self.stops == 0 {
                return Serve::Stop;
            }
            let chain = Chain::collect(chain, memory);
            self.last = Some(
                chain
                    .as_ref()
                    .map(|chain| (chain.readable.len(), chain.writable.len()))
                    .map_err(|error| *error),
            );
            if let Ok(chain) = chain {
                cut(chain.readable);
                cut(chain.writable);
            }
            Serve::Done(0)
        })
    }

    fn handle_event(&mut self, _token: u32, _readiness: Readiness) {}

    fn ready_queues(&self) -> u32 {
        0
    }
}

/// Takes a run of memory apart in pieces; none is lost, none appears.
fn cut(mut run: Buffers<'_>) {
    let whole = run.len();
    assert_eq!(whole, run.slices().iter().map(|slice| slice.len()).sum::<usize>());
    assert!(run.slices().iter().all(|slice| slice.len() > 0), "no empty pieces");
    let (mut seen, mut step) = (0, 1);
    while !run.is_empty() && step < 1 << 20 {
        let front = run.take(step.min(run.len())).expect("it has that much");
        seen += front.len();
        step *= 3;
    }
    assert_eq!(seen + run.len(), whole);
    assert_eq!(run.take(run.len() + 1).err(), Some(ChainError::TooShort));
}

fuzz_target!(|input: (Vec<Action>, Vec<Part>, u8)| {
    let (actions, parts, stops) = input;
    bounded(4 * MEBIBYTE, || {
        let mut driver = Driver::new(Looker { stops: stops.into(), ..Looker::default() });
        for action in actions.iter().take(ACTIONS_MAX) {
            driver.act(action);
        }
        honest_chain(&mut driver, &parts[..parts.len().min(64)]);
    });
});

fn honest_chain(driver: &mut Driver<Looker>, parts: &[Part]) {
    driver.act(&Action::Reset(false));
    driver.device.stops = 0;
    driver.device.last = None;
    if parts.is_empty() {
        return;
    }
    driver.offer(0, parts);
    driver.kick(0);
    assert_eq!(driver.used(0).len(), 1, "every chain comes back");
    let seen = driver.device.last.expect("the chain was seen");
    let sum = |writable| {
        parts
            .iter()
            .filter(|part| part.writable == writable)
            .map(|part| part.length.bytes() as usize)
            .sum::<usize>()
    };
    // What was taken is exactly what was offered. A chain of four GiB or more, which no driver may
    // offer, ends where the walker stops counting: it gives less, never more.
    if let (Ok(lengths), Ok(_)) = (seen, u32::try_from(sum(false) + sum(true))) {
        assert_eq!(lengths, (sum(false), sum(true)));
    }
}
