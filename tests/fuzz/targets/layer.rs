//! A layer's tar stream, byte for byte as somebody pushed it: it becomes an image that reads back
//! whole and can be merged, or it is refused.

#![no_main]

use husk_fuzz::{MEBIBYTE, bounded, read_image, scratch_file};
use husk_image::erofs::Reader;
use husk_image::layer::{convert, merge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    bounded(64 * MEBIBYTE, || {
        let output = scratch_file();
        let Ok(summary) = convert(bytes, &output) else { return };
        assert_eq!(output.metadata().expect("a file").len(), summary.image_bytes);
        let reader = Reader::open(&output).expect("what is written can be read");
        let (files, whole) = read_image(&reader).expect("all of it");
        let sum: u64 = files.iter().map(|(_, content)| content.len() as u64).sum();
        assert!(!whole || summary.content_bytes <= sum, "hard links are counted once");
        let merged = scratch_file();
        // A link to a file of a lower layer has none here.
        if merge(std::slice::from_ref(&output), &merged).is_ok() {
            let devices = vec![&output];
            let reader = Reader::with_devices(&merged, devices).expect("a merged image");
            read_image(&reader).expect("all of it");
        }
    });
});
