//! An image that our writer did not write: read, and merged as a layer.

#![no_main]

use std::os::unix::fs::FileExt;

use husk_fuzz::{MEBIBYTE, bounded, read_image, scratch_file};
use husk_image::erofs::Reader;
use husk_image::layer::merge;
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    bounded(64 * MEBIBYTE, || {
        let mut image = bytes.to_vec();
        image.resize(bytes.len().next_multiple_of(BLOCK), 0);
        if let Ok(reader) = Reader::open(&image[..]) {
            let _ = read_image(&reader);
            for path in [&b"/a/b"[..], b"a", b"/", b"..", b"a/../b"] {
                let _ = reader.lookup(path, true);
            }
        }
        let (layer, output) = (scratch_file(), scratch_file());
        layer.write_all_at(&image, 0).expect("memory");
        if merge(std::slice::from_ref(&layer), &output).is_ok() {
            let reader = Reader::with_devices(&output, vec![&layer]).expect("an image");
            let _ = read_image(&reader);
        }
    });
});
