//! The configuration document: any JSON, any number of descriptors.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use husk_fuzz::{Document, MEBIBYTE, bounded};
use husk_vmm_config::VmConfig;
use libfuzzer_sys::fuzz_target;

/// Names and values of the document.
const WORDS: &[&str] = &[
    "id",
    "accelerator",
    "kvm",
    "software",
    "vcpus",
    "memory_mib",
    "kernel",
    "cmdline",
    "disks",
    "serial",
    "segments",
    "fd",
    "length",
    "read_only",
    "vsock",
    "guest_cid",
    "listener",
    "directory",
    "control",
    "report",
    "emulator",
    "networks",
    "balloon",
    "pmem",
    "rate_limit",
    "/run/husk",
    "system",
    "console=ttyS0",
    "a\"b",
    "",
    "net",
    "tap",
    "mac",
    "bytes",
    "operations",
];

fuzz_target!(|bytes: &[u8]| {
    bounded(MEBIBYTE, || {
        check(bytes, 8);
        let mut rest = Unstructured::new(bytes);
        let Ok(fds) = u8::arbitrary(&mut rest) else { return };
        let Ok(Document(value)) = Document::read(&mut rest, WORDS) else { return };
        check(&serde_json::to_vec(&value).expect("values have string keys"), fds.into());
    });
});

fn check(json: &[u8], fds: usize) {
    let Ok(config) = serde_json::from_slice::<VmConfig>(json) else { return };
    let verdict = config.validate(fds);
    if let Err(error) = &verdict {
        let text = error.to_string();
        assert!(!text.is_empty() && text.len() < 4096, "one bounded line: {} bytes", text.len());
    }
    // What was understood is understood again, and judged the same.
    let again = serde_json::to_vec(&config).expect("a configuration is JSON");
    let again: VmConfig = serde_json::from_slice(&again).expect("its own JSON is one");
    assert_eq!(again, config);
    assert_eq!(again.validate(fds), verdict);
}
