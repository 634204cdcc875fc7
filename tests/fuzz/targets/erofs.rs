//! An image that our writer did not write, or not quite: read, and merged as a layer.

#![no_main]

use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use husk_fuzz::{MEBIBYTE, bounded, honest_stream, read_image, scratch_file};
use husk_image::erofs::{Reader, Source};
use husk_image::layer::{convert, merge};
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    bounded(64 * MEBIBYTE, || match kind % 2 {
        0 => {
            let mut image = bytes.to_vec();
            image.resize(bytes.len().next_multiple_of(BLOCK), 0);
            read(&image);
        }
        _ => read(&patched(bytes)),
    });
});

/// An image of ours with bytes changed: three of the input say where, and to what.
fn patched(changes: &[u8]) -> Vec<u8> {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        let file = |path: &str, length| (path.to_owned(), vec![b'x'; length]);
        let files = [file("a/b/c", 10), file("a/d", 5000), file("e", 0), file(&"n".repeat(90), 1)];
        let output = scratch_file();
        convert(&honest_stream(&files)[..], &output).expect("an honest layer");
        let length = usize::try_from(output.size().expect("a file")).expect("small");
        let mut bytes = vec![0; length];
        FileExt::read_exact_at(&output, &mut bytes, 0).expect("all of it");
        bytes
    });
    let mut image = image.clone();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if let Some(byte) = image.get_mut(place) {
            *byte = change[2];
        }
    }
    image
}

fn read(image: &[u8]) {
    if let Ok(reader) = Reader::open(image) {
        let _ = read_image(&reader);
        for path in [&b"/a/b"[..], b"a", b"/", b"..", b"a/../b"] {
            let _ = reader.lookup(path, true);
        }
    }
    let (layer, output) = (scratch_file(), scratch_file());
    layer.write_all_at(image, 0).expect("memory");
    if merge(std::slice::from_ref(&layer), &output).is_ok() {
        let reader = Reader::with_devices(&output, vec![&layer]).expect("an image");
        let _ = read_image(&reader);
    }
}
