//! What the host reads from a guest's agent: all of it is the guest's word.

#![no_main]

use arbitrary::Unstructured;
use husk_fuzz::{Document, MEBIBYTE, bounded};
use husk_protocol::frame::{self, HEADER_LEN, decode, decode_length};
use husk_protocol::limits::{CHUNK_MAX, FRAME_MAX};
use husk_protocol::{Opened, Reply, chunk};
use libfuzzer_sys::fuzz_target;

/// Names and values of the messages.
const WORDS: &[&str] = &[
    "generation",
    "error",
    "kind",
    "message",
    "command_not_found",
    "internal",
    "request_id",
    "reply",
    "done",
    "started",
    "pid",
    "exited",
    "code",
    "oom_killed",
    "exited_at_unix_ns",
    "info",
    "agent_version",
    "kernel_release",
    "boot_id",
    "uptime_ms",
    "not_found",
    "invalid_state",
];

fuzz_target!(|bytes: &[u8]| {
    bounded(16 * MEBIBYTE, || {
        frames(bytes);
        chunks(bytes);
        if let Ok(Document(value)) = Document::read(&mut Unstructured::new(bytes), WORDS) {
            messages(&serde_json::to_vec(&value).expect("values have string keys"));
        }
    });
});

fn frames(mut wire: &[u8]) {
    while let Some((header, rest)) = wire.split_first_chunk::<HEADER_LEN>() {
        let Ok(length) = decode_length(*header) else { return };
        assert!(length <= FRAME_MAX as usize);
        let Some((json, rest)) = rest.split_at_checked(length) else { return };
        messages(json);
        wire = rest;
    }
}

fn messages(json: &[u8]) {
    if let Ok(opened) = decode::<Opened>(json) {
        let again = frame::encode(&opened).expect("no longer than it came");
        assert_eq!(decode::<Opened>(&again[HEADER_LEN..]).expect("its own JSON"), opened);
    }
    if let Ok(reply) = decode::<Reply>(json) {
        let again = frame::encode(&reply).expect("no longer than it came");
        let again = decode::<Reply>(&again[HEADER_LEN..]).expect("its own JSON");
        assert_eq!((again.id, again.body), (reply.id, reply.body));
    }
}

/// A stream of chunks comes to an end or runs out, and each is bounded.
fn chunks(mut wire: &[u8]) {
    while let Some((header, rest)) = wire.split_first_chunk::<{ chunk::HEADER_LEN }>() {
        let Ok(length) = chunk::decode_header(*header) else { return };
        assert!(length <= CHUNK_MAX as usize);
        let again = chunk::encode_header(u32::try_from(length).expect("bounded"));
        assert_eq!(again, Ok(*header), "there is one spelling");
        let Some((_, rest)) = rest.split_at_checked(length) else { return };
        if length == 0 {
            return;
        }
        wire = rest;
    }
}
