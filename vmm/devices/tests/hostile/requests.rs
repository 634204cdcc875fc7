//! Requests whose numbers do not add up: only the block device has any.

use crate::guest::{Guest, memory, status};
use crate::subject::{DISK_LENGTH, bytes, content, disk};

const HEADER: u64 = 0x1000;
const STATUS: u64 = 0x1800;
const DATA: u64 = 0x2000;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Every type that there is, and some that others gave a meaning: SCSI commands, zones, secrets.
const KINDS: [u32; 14] =
    [IN, OUT, 2, 3, FLUSH, 5, GET_ID, 10, DISCARD, 12, WRITE_ZEROES, 14, 16, u32::MAX];

/// One request; the status byte, or `None` where the device left it alone.
fn ask(guest: &mut Guest, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> Option<u8> {
    guest.bring_up();
    guest.put(HEADER, &kind.to_le_bytes());
    guest.put(HEADER + 4, &[0; 4]);
    guest.put(HEADER + 8, &sector.to_le_bytes());
    guest.put(STATUS, &[0xee]);
    let parts = [&[(HEADER, 16, false)], data, &[(STATUS, 1, true)]].concat();
    guest.offer(0, &parts);
    guest.kick(0);
    assert_eq!(guest.used(0).len(), 1, "every chain comes back");
    Some(guest.bytes(STATUS, 1)[0]).filter(|&code| code != 0xee)
}

#[test]
fn sectors_that_overflow_or_lie_outside_are_an_error_and_change_nothing() {
    let (device, file) = disk(false);
    let mut guest = Guest::live(device, memory());
    let sectors = DISK_LENGTH as u64 / 512;
    for sector in
        [sectors, 1 << 32, 1 << 54, (1 << 55) - 1, 1 << 55, 1 << 63, u64::MAX / 512, u64::MAX]
    {
        for kind in [IN, OUT] {
            let status = ask(&mut guest, kind, sector, &[(DATA, 512, kind == IN)]);
            assert_eq!(status, Some(1), "{kind} at {sector:#x}");
        }
        guest.put(DATA, &sector.to_le_bytes());
        for length in [1, u32::try_from(sectors).unwrap(), u32::MAX] {
            guest.put(DATA + 8, &length.to_le_bytes());
            guest.put(DATA + 12, &[0; 4]);
            for kind in [DISCARD, WRITE_ZEROES] {
                let status = ask(&mut guest, kind, 0, &[(DATA, 16, false)]);
                assert_eq!(status, Some(1), "{kind} of {length} at {sector:#x}");
            }
        }
    }
    assert!(bytes(&file) == content(), "the file is as it was");
}

#[test]
fn no_type_of_request_does_anything_that_was_not_offered() {
    let (device, file) = disk(false);
    let mut guest = Guest::live(device, memory());
    for kind in KINDS {
        for high in [0, 0x8000_0000] {
            if matches!(kind | high, IN | OUT | FLUSH | GET_ID | DISCARD | WRITE_ZEROES) {
                continue;
            }
            let data = [(DATA, 512, false), (DATA, 512, true)];
            assert_eq!(ask(&mut guest, kind | high, 0, &data), Some(2), "type {kind} | {high:#x}");
        }
    }
    assert!(bytes(&file) == content(), "the file is as it was");
}

#[test]
fn a_request_cut_at_every_byte_is_survived() {
    let (device, file) = disk(true);
    let mut guest = Guest::live(device, memory());
    for header in 0..=20 {
        for tail in [0, 1, 2, 511, 512, 513] {
            guest.bring_up();
            guest.put(HEADER, &[0; 32]);
            guest.offer(0, &[(HEADER, header, false), (DATA, tail, true)]);
            guest.kick(0);
            assert_eq!(guest.used(0).len(), 1, "{header} and {tail} bytes");
            assert_eq!(guest.status(), status::LIVE);
        }
    }
    assert!(bytes(&file) == content(), "the file is as it was");
}

#[test]
fn the_status_byte_is_the_only_one_written_by_a_refused_request() {
    let (device, _) = disk(false);
    let mut guest = Guest::live(device, memory());
    guest.put(DATA, &[0xa5; 1024]);
    assert_eq!(ask(&mut guest, IN, u64::MAX, &[(DATA, 512, true)]), Some(1));
    assert_eq!(ask(&mut guest, 99, 0, &[(DATA, 512, true)]), Some(2));
    assert_eq!(guest.bytes(DATA, 1024), [0xa5; 1024]);
    assert_eq!(guest.bytes(STATUS + 1, 8), [0; 8]);
}
