//! What the agent reads from the host: frames in any pieces, and requests of any shape.

#![no_main]

use std::io;

use arbitrary::Unstructured;
use husk_agent::session::frame_reader::FrameReader;
use husk_fuzz::{Document, MEBIBYTE, bounded};
use husk_protocol::frame::{decode, encode};
use husk_protocol::{Open, Request, RequestBody};
use libfuzzer_sys::fuzz_target;

/// Names and values of the messages.
const WORDS: &[&str] = &[
    "open",
    "control",
    "output",
    "input",
    "generation",
    "process",
    "stream",
    "stdin",
    "stdout",
    "stderr",
    "offset",
    "request_id",
    "request",
    "create_container",
    "start",
    "wait",
    "signal",
    "all",
    "resize",
    "rows",
    "columns",
    "set_time",
    "unix_ns",
    "info",
    "shutdown",
    "id",
    "rootfs",
    "image_disk",
    "writable_disk",
    "user",
    "spec",
    "files",
    "ociVersion",
    "root",
    "path",
    "mounts",
    "linux",
    "namespaces",
    "resources",
    "args",
    "cwd",
    "env",
];

fuzz_target!(|bytes: &[u8]| {
    // A frame, its text and what is made of it.
    bounded(16 * MEBIBYTE, || {
        frames(bytes);
        let mut rest = Unstructured::new(bytes);
        if let Ok(Document(value)) = Document::read(&mut rest, WORDS) {
            messages(&serde_json::to_vec(&value).expect("values have string keys"));
        }
    });
});

/// The bytes as they come: the first says in which pieces.
fn frames(bytes: &[u8]) {
    let Some((&step, mut wire)) = bytes.split_first() else { return };
    let mut reader = FrameReader::default();
    loop {
        let mut budget = usize::from(step) + 1;
        let frame = reader.next(|buffer| {
            let count = buffer.len().min(wire.len()).min(budget);
            if count == 0 && !wire.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            buffer[..count].copy_from_slice(&wire[..count]);
            wire = &wire[count..];
            budget -= count;
            Ok(count)
        });
        match frame {
            Ok(Some(json)) => messages(&json),
            Ok(None) => assert!(!wire.is_empty(), "only more bytes complete a frame"),
            Err(_) => return,
        }
    }
}

fn messages(json: &[u8]) {
    if let Ok(open) = decode::<Open>(json) {
        let again = encode(&open).expect("no longer than it came");
        assert_eq!(decode::<Open>(&again[4..]).expect("its own JSON"), open);
    }
    if let Ok(request) = decode::<Request>(json) {
        let again = encode(&request).expect("no longer than it came");
        let again = decode::<Request>(&again[4..]).expect("its own JSON");
        assert_eq!(again.id, request.id);
        if let RequestBody::CreateContainer(create) = &request.body {
            // The whole of what the agent judges before it touches anything.
            let _ = husk_agent::container::validate::validate(create);
        }
    }
}
