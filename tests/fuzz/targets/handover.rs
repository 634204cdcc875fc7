//! The header that precedes a configuration, and the lines of the control socket.

#![no_main]

use husk_fuzz::{MEBIBYTE, bounded};
use husk_vmm_config::handover::{
    DOCUMENT_LENGTH_MAX, FDS_MAX, HEADER_LENGTH, Header, batch_length,
};
use husk_vmm_config::{Command, Event};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    bounded(MEBIBYTE, || {
        if let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() {
            read(*header);
        }
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        if let Ok(command) = serde_json::from_slice::<Command>(line) {
            let json = serde_json::to_vec(&command).expect("a command is JSON");
            assert_eq!(serde_json::from_slice::<Command>(&json).expect("its own JSON"), command);
        }
        // What a VMM tells: its guest may own it.
        if let Ok(event) = serde_json::from_slice::<Event>(line) {
            let json = serde_json::to_vec(&event).expect("an event is JSON");
            assert_eq!(serde_json::from_slice::<Event>(&json).expect("its own JSON"), event);
        }
    });
});

fn read(bytes: [u8; HEADER_LENGTH]) {
    let Ok(header) = Header::decode(bytes) else { return };
    assert!(header.document_length <= DOCUMENT_LENGTH_MAX && header.fd_count <= FDS_MAX);
    assert_eq!(header.encode(), bytes, "there is one spelling");
    let mut done = 0;
    for _ in 0..header.batch_count() {
        let length = batch_length(header.fd_count, done);
        assert!(length > 0);
        done += length;
    }
    assert_eq!(done, header.fd_count, "all descriptors have a batch");
}
