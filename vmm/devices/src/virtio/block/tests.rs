//! Every request type, sound and hostile, and the concatenation against a flat model.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

use super::*;
use crate::rate_limiter::{Hand, Limits, Rate, Throttle};
use crate::virtio::driver::Driver;
use crate::virtio::{Buffers, Device, Memory, Readiness};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// A file in memory that moves at most so many bytes a call.
#[derive(Clone, Default)]
struct FakeFile(Arc<Mutex<FakeState>>);

#[derive(Default)]
struct FakeState {
    bytes: Vec<u8>,
    piece: Option<usize>,
    syncs: usize,
    holes: Vec<(u64, u64)>,
    zeroed: Vec<(u64, u64)>,
    broken: bool,
    no_holes: bool,
}

impl FakeFile {
    fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(FakeState { bytes, ..FakeState::default() })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut FakeState) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn bytes(&self) -> Vec<u8> {
        self.with(|state| state.bytes.clone())
    }
}

impl FakeState {
    fn check(&self) -> io::Result<()> {
        if self.broken { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn fill(&mut self, offset: u64, length: u64) {
        let offset = usize::try_from(offset).unwrap();
        let end = (offset + usize::try_from(length).unwrap()).min(self.bytes.len());
        if offset < end {
            self.bytes[offset..end].fill(0);
        }
    }
}

impl Backend for FakeFile {
    fn read_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            state.check()?;
            let start = usize::try_from(offset).unwrap().min(state.bytes.len());
            let end = state.piece.map_or(state.bytes.len(), |piece| start + piece);
            let bytes = &state.bytes[start..end.min(state.bytes.len())];
            Ok(Buffers::from(buffers.to_vec()).copy_from(bytes))
        })
    }

    fn write_at(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            state.check()?;
            let buffers = Buffers::from(buffers.to_vec());
            let mut bytes = vec![0; buffers.len().min(state.piece.unwrap_or(usize::MAX))];
            buffers.copy_to(&mut bytes);
            let start = usize::try_from(offset).unwrap();
            let length = state.bytes.len().max(start + bytes.len());
            state.bytes.resize(length, 0);
            state.bytes[start..start + bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|state| {
            state.syncs += 1;
            state.check()
        })
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.with(|state| {
            if state.no_holes {
                return Err(io::ErrorKind::Unsupported.into());
            }
            state.holes.push((offset, length));
            state.fill(offset, length);
            state.check()
        })
    }

    fn write_zeros(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.with(|state| {
            state.zeroed.push((offset, length));
            state.fill(offset, length);
            state.check()
        })
    }
}

/// A device, and a driver that asks one thing at a time.
struct Setting {
    memory: Memory,
    block: Block<FakeFile>,
}

const HEADER: u64 = 0x1000;
const STATUS: u64 = 0x1800;
const DATA: u64 = 0x2000;

impl Setting {
    fn new(files: &[(&FakeFile, u64)], read_only: bool) -> Self {
        let segments =
            files.iter().map(|&(file, length)| Segment { backend: file.clone(), length });
        let segments = Segments::new(segments).unwrap();
        Self { memory: Driver::memory(), block: Block::new(segments, "serial-1", read_only) }
    }

    /// A request with the usual layout; the status and the bytes that the driver was told of.
    fn ask(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> (u8, u32) {
        let mut parts = vec![(HEADER, 16, false)];
        parts.extend_from_slice(data);
        parts.push((STATUS, 1, true));
        self.memory.write_obj(u64::from(kind), GuestAddress(HEADER)).unwrap();
        self.memory.write_obj(sector, GuestAddress(HEADER + 8)).unwrap();
        self.memory.write_obj(0xee_u8, GuestAddress(STATUS)).unwrap();
        let used = self.offer(&parts);
        (self.memory.read_obj(GuestAddress(STATUS)).unwrap(), used)
    }

    fn offer(&mut self, parts: &[(u64, u32, bool)]) -> u32 {
        let mut driver = Driver::new(&self.memory);
        driver.offer(parts);
        assert!(self.block.process(0, &mut driver.queue, &self.memory).unwrap().used);
        let used = driver.used();
        assert_eq!(used.len(), 1, "every chain comes back");
        used[0]
    }

    /// A discard or write-zeroes request with those (sector, sectors, flags).
    fn ask_ranges(&mut self, kind: u32, ranges: &[(u64, u32, u32)]) -> u8 {
        for (place, &(sector, sectors, flags)) in ranges.iter().enumerate() {
            let at = DATA + 16 * place as u64;
            self.memory.write_obj(sector, GuestAddress(at)).unwrap();
            self.memory.write_obj(sectors, GuestAddress(at + 8)).unwrap();
            self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        }
        let length = u32::try_from(16 * ranges.len()).unwrap();
        self.ask(kind, 0, &[(DATA, length, false)]).0
    }

    fn data(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(DATA)).unwrap();
        bytes
    }
}

fn counted(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

#[test]
fn reading_fills_scattered_buffers_and_tells_their_length() {
    let file = FakeFile::new(counted(4096));
    let mut setting = Setting::new(&[(&file, 4096)], true);
    let parts = [(DATA, 100, true), (DATA + 100, 412, true), (DATA + 512, 512, true)];
    assert_eq!(setting.ask(IN, 2, &parts), (OK, 1025));
    assert_eq!(setting.data(1024), counted(4096)[1024..2048]);
}

#[test]
fn short_reads_and_writes_of_the_file_are_continued() {
    let file = FakeFile::new(counted(4096));
    file.with(|state| state.piece = Some(7));
    let mut setting = Setting::new(&[(&file, 4096)], false);
    assert_eq!(setting.ask(IN, 0, &[(DATA, 1024, true)]), (OK, 1025));
    assert_eq!(setting.data(1024), counted(1024));
    assert_eq!(setting.ask(OUT, 4, &[(DATA, 1024, false)]), (OK, 1));
    assert_eq!(file.bytes()[2048..3072], counted(1024));
}

#[test]
fn what_lies_behind_a_files_end_reads_as_zeros() {
    let file = FakeFile::new(vec![9; 700]);
    let mut setting = Setting::new(&[(&file, 1536)], true);
    setting.memory.write_slice(&[1; 1536], GuestAddress(DATA)).unwrap();
    assert_eq!(setting.ask(IN, 0, &[(DATA, 1536, true)]), (OK, 1537));
    assert_eq!(setting.data(1536), [vec![9; 700], vec![0; 836]].concat());
}

#[test]
fn writing_behind_a_sparse_files_end_extends_it() {
    let file = FakeFile::new(Vec::new());
    let mut setting = Setting::new(&[(&file, 4096)], false);
    setting.memory.write_slice(&[5; 512], GuestAddress(DATA)).unwrap();
    assert_eq!(setting.ask(OUT, 7, &[(DATA, 512, false)]), (OK, 1));
    assert_eq!(file.bytes(), [vec![0; 3584], vec![5; 512]].concat());
}

#[test]
fn sectors_outside_the_disk_are_an_error_and_change_nothing() {
    let file = FakeFile::new(vec![3; 1024]);
    let mut setting = Setting::new(&[(&file, 1024)], false);
    for sector in [2, 1 << 55, u64::MAX / 512, u64::MAX] {
        assert_eq!(setting.ask(IN, sector, &[(DATA, 512, true)]), (IOERR, 1), "{sector}");
        assert_eq!(setting.ask(OUT, sector, &[(DATA, 512, false)]), (IOERR, 1), "{sector}");
    }
    assert_eq!(setting.ask(IN, 1, &[(DATA, 1024, true)]), (IOERR, 1), "the end counts as well");
    assert_eq!(file.bytes(), vec![3; 1024]);
}

#[test]
fn broken_lengths_are_an_error_and_none_is_none() {
    let file = FakeFile::new(vec![3; 1024]);
    let mut setting = Setting::new(&[(&file, 1024)], false);
    assert_eq!(setting.ask(IN, 0, &[(DATA, 511, true)]), (IOERR, 1));
    assert_eq!(setting.ask(OUT, 0, &[(DATA, 1, false)]), (IOERR, 1));
    assert_eq!(setting.ask(IN, 0, &[]), (OK, 1));
    assert_eq!(setting.ask(OUT, 0, &[(DATA, 0, false)]), (OK, 1));
    assert_eq!(setting.ask(IN, 0, &[(DATA, u32::MAX, true)]).1, 0, "absurd: no status at all");
}

#[test]
fn chains_without_header_or_status_come_back_untouched() {
    let file = FakeFile::new(vec![3; 1024]);
    let mut setting = Setting::new(&[(&file, 1024)], false);
    assert_eq!(setting.offer(&[(HEADER, 16, false)]), 0);
    assert_eq!(setting.offer(&[(HEADER, 15, false), (STATUS, 1, true)]), 1);
    assert_eq!(setting.memory.read_obj::<u8>(GuestAddress(STATUS)).unwrap(), IOERR);
    assert_eq!(setting.offer(&[(HEADER, 16, false), (STATUS, 0, true)]), 0);
    assert_eq!(setting.offer(&[(STATUS, 1, true), (HEADER, 16, false)]), 0);
    assert_eq!(setting.offer(&[(1 << 50, 16, false), (STATUS, 1, true)]), 0);
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let file = FakeFile::new(counted(1024));
    let mut setting = Setting::new(&[(&file, 1024)], true);
    setting.memory.write_obj(u64::from(IN), GuestAddress(HEADER)).unwrap();
    setting.memory.write_obj(1_u64, GuestAddress(HEADER + 8)).unwrap();
    // Header in three pieces, data and status in one.
    let parts =
        [(HEADER, 5, false), (HEADER + 5, 10, false), (HEADER + 15, 1, false), (DATA, 513, true)];
    assert_eq!(setting.offer(&parts), 513);
    assert_eq!(setting.data(513), [&counted(1024)[512..], &[OK]].concat());
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    let file = FakeFile::new(vec![3; 1024]);
    let mut setting = Setting::new(&[(&file, 1024)], true);
    assert_eq!(setting.ask(OUT, 0, &[(DATA, 512, false)]), (IOERR, 1));
    assert_eq!(setting.ask_ranges(DISCARD, &[(0, 1, 0)]), IOERR);
    assert_eq!(setting.ask_ranges(WRITE_ZEROES, &[(0, 1, 0)]), IOERR);
    assert_eq!(setting.ask(FLUSH, 0, &[]), (OK, 1));
    assert_eq!(file.bytes(), vec![3; 1024]);
    assert_eq!(file.with(|state| state.syncs), 0, "nothing was written that could be flushed");
    let features = setting.block.features();
    assert_eq!((features >> 5 & 1, features >> 13 & 1, features >> 14 & 1), (1, 0, 0));
}

#[test]
fn flushing_syncs_and_failures_are_told() {
    let file = FakeFile::new(vec![3; 1024]);
    let mut setting = Setting::new(&[(&file, 1024)], false);
    assert_eq!(setting.ask(FLUSH, 0, &[]), (OK, 1));
    assert_eq!(file.with(|state| state.syncs), 1);
    file.with(|state| state.broken = true);
    assert_eq!(setting.ask(FLUSH, 0, &[]), (IOERR, 1));
    assert_eq!(setting.ask(IN, 0, &[(DATA, 512, true)]), (IOERR, 1));
    assert_eq!(setting.ask(OUT, 0, &[(DATA, 512, false)]), (IOERR, 1));
}

#[test]
fn the_serial_is_told_as_far_as_there_is_room() {
    let file = FakeFile::new(vec![3; 1024]);
    let mut setting = Setting::new(&[(&file, 1024)], true);
    assert_eq!(setting.ask(GET_ID, 0, &[(DATA, 20, true)]), (OK, 21));
    assert_eq!(setting.data(20), [b"serial-1".to_vec(), vec![0; 12]].concat());
    assert_eq!(setting.ask(GET_ID, 0, &[(DATA + 64, 6, true)]), (OK, 7));
    assert_eq!(setting.ask(GET_ID, 0, &[]), (OK, 1));
}

#[test]
fn unknown_types_are_unsupported() {
    let file = FakeFile::new(vec![3; 1024]);
    let mut setting = Setting::new(&[(&file, 1024)], false);
    for kind in [2, 3, 5, 10, 12, 14, 15, 0x8000_0000, u32::MAX] {
        assert_eq!(setting.ask(kind, 0, &[(DATA, 512, true)]), (UNSUPP, 1), "{kind}");
    }
}

#[test]
fn discarding_punches_holes_where_the_file_can() {
    let file = FakeFile::new(vec![3; 4096]);
    let mut setting = Setting::new(&[(&file, 4096)], false);
    assert_eq!(setting.ask_ranges(DISCARD, &[(0, 1, 0), (4, 2, 0)]), OK);
    assert_eq!(file.with(|state| state.holes.clone()), [(0, 512), (2048, 1024)]);
    file.with(|state| state.no_holes = true);
    assert_eq!(setting.ask_ranges(DISCARD, &[(1, 1, 0)]), OK, "it is a hint");
    assert_eq!(file.bytes()[512..1024], [3; 512]);
}

#[test]
fn writing_zeroes_keeps_the_space_unless_told_otherwise() {
    let file = FakeFile::new(vec![3; 4096]);
    let mut setting = Setting::new(&[(&file, 4096)], false);
    assert_eq!(setting.ask_ranges(WRITE_ZEROES, &[(0, 1, 0)]), OK);
    assert_eq!(setting.ask_ranges(WRITE_ZEROES, &[(1, 1, 1)]), OK);
    let (holes, zeroed) = file.with(|state| (state.holes.clone(), state.zeroed.clone()));
    assert_eq!((holes, zeroed), (vec![(512, 512)], vec![(0, 512)]));
    file.with(|state| state.no_holes = true);
    assert_eq!(setting.ask_ranges(WRITE_ZEROES, &[(2, 1, 1)]), OK);
    assert_eq!(file.bytes()[..1536], [0; 1536]);
}

#[test]
fn ranges_beyond_disk_limits_or_flags_are_refused() {
    let file = FakeFile::new(vec![3; 4096]);
    let mut setting = Setting::new(&[(&file, 4096)], false);
    assert_eq!(setting.ask_ranges(DISCARD, &[(7, 2, 0)]), IOERR);
    assert_eq!(setting.ask_ranges(DISCARD, &[(u64::MAX, 1, 0)]), IOERR);
    assert_eq!(setting.ask_ranges(DISCARD, &[(0, u32::MAX, 0)]), IOERR);
    assert_eq!(setting.ask_ranges(DISCARD, &[(0, 1, 1)]), UNSUPP);
    assert_eq!(setting.ask_ranges(WRITE_ZEROES, &[(0, 1, 2)]), UNSUPP);
    assert_eq!(setting.ask_ranges(DISCARD, &[(0, 1, 0); 33]), IOERR);
    assert_eq!(setting.ask_ranges(WRITE_ZEROES, &[(0, 1, 0); 2]), IOERR);
    assert_eq!(setting.ask_ranges(WRITE_ZEROES, &[(0, (1 << 16) + 1, 0)]), IOERR);
    assert_eq!(setting.ask_ranges(DISCARD, &[]), IOERR);
    assert_eq!(setting.ask(DISCARD, 0, &[(DATA, 15, false)]), (IOERR, 1));
    assert_eq!(file.bytes(), vec![3; 4096], "a bad range spoils the whole request");
}

#[test]
fn a_limited_disk_goes_on_when_its_alarm_says_so() {
    let file = FakeFile::new(vec![3; 4096]);
    let hand = Hand::default();
    let rate = Rate { size: 1024, one_time_burst: 0, refill_per_second: 512 };
    let limits = Limits { bytes: Some(rate), operations: None };
    let Setting { memory, block } = Setting::new(&[(&file, 4096)], false);
    let mut block = block.with_throttle(Throttle::new(limits, Box::new(hand.clone())));
    let mut driver = Driver::new(&memory);
    // Zeros are a header: read the first sector.
    for _ in 0..3 {
        driver.offer(&[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)]);
    }
    let mut process = |driver: &mut Driver<'_>| {
        let _ = block.process(0, &mut driver.queue, &memory).unwrap();
        let ready = block.ready_queues();
        if hand.turn(Duration::from_millis(500)) {
            block.handle_event(THROTTLE, Readiness { readable: true, writable: false });
        }
        (driver.used().len(), ready, block.ready_queues())
    };
    assert_eq!(process(&mut driver), (2, 0, 0));
    assert_eq!(process(&mut driver), (0, 0, 1), "half a second is not enough, a second is");
    assert_eq!(process(&mut driver), (1, 0, 0));
}

#[test]
fn the_configuration_space_says_what_the_device_takes() {
    let file = FakeFile::new(Vec::new());
    let setting = Setting::new(&[(&file, 1 << 40)], false);
    let word = |offset| {
        let mut bytes = [0; 4];
        setting.block.read_config(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    assert_eq!(u64::from(word(0)) | u64::from(word(4)) << 32, (1 << 40) / 512);
    assert_eq!((word(12), word(20), word(24)), (126, 512, 3));
    assert_eq!((word(36), word(40), word(44)), (1 << 22, 32, 8));
    assert_eq!((word(48), word(52), word(56), word(60)), (1 << 16, 1, 1, 0));
}

#[test]
fn segments_that_make_no_disk_are_refused() {
    let segment = |length| Segment { backend: FakeFile::default(), length };
    let refused = |lengths: &[u64]| {
        Segments::new(lengths.iter().map(|&length| segment(length))).err().unwrap()
    };
    assert_eq!(refused(&[]), SegmentsError::Empty);
    assert_eq!(refused(&[512, 0]), SegmentsError::Length { index: 1, length: 0 });
    assert_eq!(refused(&[513]), SegmentsError::Length { index: 0, length: 513 });
    assert_eq!(refused(&[1 << 62, 1 << 62]), SegmentsError::TooLong);
    assert_eq!(refused(&[u64::MAX - 511, u64::MAX - 511]), SegmentsError::TooLong);
}

/// An action on sectors, for the model.
#[derive(Clone, Debug)]
enum Action {
    Read(u64, u64),
    Write(u64, u64, u8),
    Zero(u64, u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let sectors = (0..40_u64, 0..16_u64);
    prop::collection::vec(
        prop_oneof![
            sectors.clone().prop_map(|(sector, count)| Action::Read(sector, count)),
            (sectors.clone(), any::<u8>())
                .prop_map(|((sector, count), byte)| Action::Write(sector, count, byte)),
            sectors.prop_map(|(sector, count)| Action::Zero(sector, count)),
        ],
        1..30,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A concatenation behaves as one run of bytes, wherever requests and segments begin and end.
    #[test]
    fn segments_behave_as_one_file(
        lengths in prop::collection::vec((1..6_u64, 0..3072_usize), 1..12),
        piece in 1..2000_usize,
        actions in actions(),
    ) {
        let files: Vec<_> = lengths.iter().map(|&(sectors, present)| {
            let length = sectors * SECTOR_LENGTH;
            let present = present.min(usize::try_from(length).unwrap());
            let file = FakeFile::new(counted(present));
            file.with(|state| state.piece = Some(piece));
            (file, length)
        }).collect();
        let mut model = Vec::new();
        for (file, length) in &files {
            model.extend(file.bytes());
            let end = model.len() + usize::try_from(*length).unwrap() - file.bytes().len();
            model.resize(end, 0);
        }
        let parts: Vec<_> = files.iter().map(|(file, length)| (file, *length)).collect();
        let mut setting = Setting::new(&parts, false);
        for action in actions {
            let (sector, count) = match action {
                Action::Read(s, c) | Action::Write(s, c, _) | Action::Zero(s, c) => (s, c),
            };
            let (start, length) = (usize::try_from(sector).unwrap() * 512, usize::try_from(count).unwrap() * 512);
            let inside = start + length <= model.len();
            let expected = if inside { OK } else { IOERR };
            let wire = u32::try_from(length).unwrap();
            match action {
                Action::Read(..) => {
                    let (status, _) = setting.ask(IN, sector, &[(DATA, wire, true)]);
                    prop_assert_eq!(status, expected);
                    if inside {
                        prop_assert_eq!(setting.data(length), &model[start..start + length]);
                    }
                }
                Action::Write(_, _, byte) => {
                    setting.memory.write_slice(&vec![byte; length], GuestAddress(DATA)).unwrap();
                    prop_assert_eq!(setting.ask(OUT, sector, &[(DATA, wire, false)]).0, expected);
                    if inside {
                        model[start..start + length].fill(byte);
                    }
                }
                Action::Zero(..) => {
                    let sectors = u32::try_from(count).unwrap();
                    let status = setting.ask_ranges(WRITE_ZEROES, &[(sector, sectors, 0)]);
                    prop_assert_eq!(status, expected);
                    if inside {
                        model[start..start + length].fill(0);
                    }
                }
            }
        }
    }
}
