//! The block device: any driver, and requests whose outcome a flat array of bytes knows.

#![no_main]

use arbitrary::Arbitrary;
use husk_devices::virtio::block::{Block, Segments};
use husk_fuzz::{ACTIONS_MAX, Action, Disk, DiskFile, Driver, MEBIBYTE, bounded};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};

const HEADER: u64 = 0x9000;
const STATUS: u64 = 0x9800;
const DATA: u64 = 0xa000;

/// A little more than the longest disk has, and still in memory.
const SECTORS: u8 = 136;

const IN: u32 = 0;
const OUT: u32 = 1;
const WRITE_ZEROES: u32 = 13;
const OK: u8 = 0;

#[derive(Arbitrary, Debug)]
struct Input {
    segments: Vec<u8>,
    piece: u16,
    read_only: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Whatever a driver can do.
    Driver(Action),
    /// A read, its data in two buffers cut at that byte.
    Read { sector: u8, sectors: u8, cut: u16 },
    /// A write of one byte over and over.
    Write { sector: u8, sectors: u8, byte: u8, cut: u16 },
    /// Zeros.
    Zero { sector: u8, sectors: u8, unmap: bool },
    /// Any type and place, with that much data each way.
    Any { kind: u8, sector: u64, out: u16, into: u16 },
    /// The files begin or cease to fail.
    Failing(bool),
}

fuzz_target!(|input: Input| {
    bounded(4 * MEBIBYTE, || run(&input));
});

fn run(input: &Input) {
    let sectors: Vec<u64> =
        input.segments.iter().take(8).map(|&count| u64::from(count % 16) + 1).collect();
    let (disk, segments) = Disk::new(&sectors, input.piece.into(), input.read_only);
    let Ok(segments) = Segments::new(segments) else { return };
    let mut setting = Setting {
        driver: Driver::new(Block::new(segments, "serial", input.read_only)),
        disk,
        read_only: input.read_only,
        failing: false,
    };
    for step in input.steps.iter().take(ACTIONS_MAX) {
        setting.step(step);
    }
}

struct Setting {
    driver: Driver<Block<DiskFile>>,
    disk: Disk,
    read_only: bool,
    failing: bool,
}

impl Setting {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Driver(ref action) => self.driver.act(action),
            Step::Read { sector, sectors, cut } => self.read(sector, sectors % SECTORS, cut),
            Step::Write { sector, sectors, byte, cut } => {
                self.write(sector, sectors % SECTORS, byte, cut);
            }
            Step::Zero { sector, sectors, unmap } => self.zero(sector, sectors, unmap),
            Step::Any { kind, sector, out, into } => {
                let parts = [(DATA, out.into(), false), (DATA, into.into(), true)];
                let _ = self.ask(kind.into(), sector, &parts);
            }
            Step::Failing(failing) => {
                self.failing = failing;
                self.disk.set_failing(failing);
            }
        }
    }

    /// One request as it should be; its status, if the queue still works.
    fn ask(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> Option<u8> {
        self.driver.act(&Action::Reset(false));
        let memory = self.driver.memory();
        memory.write_obj(u64::from(kind), GuestAddress(HEADER)).unwrap();
        memory.write_obj(sector, GuestAddress(HEADER + 8)).unwrap();
        memory.write_obj(0xee_u8, GuestAddress(STATUS)).unwrap();
        let mut parts = vec![(HEADER, 16, false)];
        parts.extend_from_slice(data);
        parts.push((STATUS, 1, true));
        self.driver.offer_at(0, &parts);
        self.driver.kick(0);
        assert!(!self.driver.is_broken(0), "an honest ring works");
        assert_eq!(self.driver.used(0).len(), 1, "every chain comes back");
        Some(memory.read_obj(GuestAddress(STATUS)).unwrap())
    }

    /// Whether the disk has that range and works.
    fn is_due(&self, sector: u8, sectors: u8, length: usize) -> bool {
        !self.failing && 512 * (usize::from(sector) + usize::from(sectors)) <= length
    }

    fn read(&mut self, sector: u8, sectors: u8, cut: u16) {
        let expected = self.disk.bytes();
        let length = 512 * u32::from(sectors);
        let status = self.ask(IN, sector.into(), &halves(length, cut, true));
        let due = self.is_due(sector, sectors, expected.len());
        // Nothing is read where nothing is asked for, so nothing can fail.
        let nothing = sectors == 0 && 512 * usize::from(sector) <= expected.len();
        assert_eq!(status == Some(OK), due || nothing, "a read of {sectors} at {sector}");
        if due {
            let mut bytes = vec![0; length as usize];
            self.driver.memory().read_slice(&mut bytes, GuestAddress(DATA)).unwrap();
            let start = 512 * usize::from(sector);
            assert_eq!(bytes, expected[start..start + bytes.len()], "bytes in order");
        }
        assert_eq!(self.disk.bytes(), expected, "a read changes nothing");
    }

    fn write(&mut self, sector: u8, sectors: u8, byte: u8, cut: u16) {
        let mut expected = self.disk.bytes();
        let length = 512 * u32::from(sectors);
        let data = vec![byte; length as usize];
        self.driver.memory().write_slice(&data, GuestAddress(DATA)).unwrap();
        let status = self.ask(OUT, sector.into(), &halves(length, cut, false));
        self.changed(status, sector, sectors, byte, &mut expected);
    }

    fn zero(&mut self, sector: u8, sectors: u8, unmap: bool) {
        let mut expected = self.disk.bytes();
        let memory = self.driver.memory();
        memory.write_obj(u64::from(sector), GuestAddress(DATA)).unwrap();
        memory.write_obj(u32::from(sectors), GuestAddress(DATA + 8)).unwrap();
        memory.write_obj(u32::from(unmap), GuestAddress(DATA + 12)).unwrap();
        let status = self.ask(WRITE_ZEROES, 0, &[(DATA, 16, false)]);
        self.changed(status, sector, sectors, 0, &mut expected);
    }

    /// A change happened as asked, or not at all.
    fn changed(&self, status: Option<u8>, sector: u8, sectors: u8, byte: u8, model: &mut [u8]) {
        let inside = 512 * (usize::from(sector) + usize::from(sectors)) <= model.len();
        let due = inside && !self.read_only && (!self.failing || sectors == 0);
        assert_eq!(status == Some(OK), due, "{sectors} sectors at {sector}");
        if due {
            let start = 512 * usize::from(sector);
            model[start..start + 512 * usize::from(sectors)].fill(byte);
        }
        assert!(self.disk.bytes() == model, "exactly the asked range is changed");
    }
}

/// A buffer of `length` bytes in two pieces.
fn halves(length: u32, cut: u16, writable: bool) -> [(u64, u32, bool); 2] {
    let cut = u32::from(cut).min(length);
    [(DATA, cut, writable), (DATA + u64::from(cut), length - cut, writable)]
}
