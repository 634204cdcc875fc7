//! Layers of odd entries with sound checksums, one on the other; honest files survive unharmed.

#![no_main]

use husk_fuzz::{Entry, MEBIBYTE, bounded, honest_stream, read_image, scratch_file, tar_stream};
use husk_image::erofs::Reader;
use husk_image::layer::{convert, merge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<Entry>, Vec<Entry>, Vec<u8>)| {
    let (lower, upper, content) = input;
    bounded(64 * MEBIBYTE, || {
        odd(&lower, &upper);
        honest(&content);
    });
});

fn odd(lower: &[Entry], upper: &[Entry]) {
    let mut layers = Vec::new();
    for entries in [lower, upper] {
        let output = scratch_file();
        if convert(&tar_stream(entries)[..], &output).is_ok() {
            let reader = Reader::open(&output).expect("what is written can be read");
            let (files, _) = read_image(&reader).expect("all of it");
            for (path, _) in files {
                let mut parts = path.split(|&byte| byte == b'/').skip(1);
                assert!(parts.all(|part| !matches!(part, b"" | b"." | b"..")), "{path:?}");
            }
            layers.push(output);
        }
    }
    let merged = scratch_file();
    if !layers.is_empty() && merge(&layers, &merged).is_ok() {
        let reader = Reader::with_devices(&merged, layers.iter().collect()).expect("an image");
        let (files, _) = read_image(&reader).expect("all of it");
        let hidden = files.iter().find(|(path, _)| path.windows(5).any(|at| at == b"/.wh."));
        assert!(hidden.is_none(), "no whiteout is left as a file: {hidden:?}");
    }
}

/// Files of several lengths, mostly around the border of a block.
fn honest(content: &[u8]) {
    let lengths = [0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 9000];
    let [first, second] = [0, 1].map(|place| {
        let choice = content.get(place).map_or(0, |&byte| usize::from(byte));
        lengths[choice % lengths.len()]
    });
    let files: Vec<(String, Vec<u8>)> = [first, content.len(), second]
        .into_iter()
        .enumerate()
        .map(|(place, length)| {
            let mut bytes = content.repeat(length / content.len().max(1) + 1);
            bytes.resize(length, 7);
            (format!("file-{place}"), bytes)
        })
        .collect();
    let output = scratch_file();
    convert(&honest_stream(&files)[..], &output).expect("an honest layer");
    let (mut found, whole) = read_image(&Reader::open(&output).expect("an image")).expect("all");
    found.sort();
    let expected: Vec<(Vec<u8>, Vec<u8>)> =
        files.into_iter().map(|(path, bytes)| (format!("/{path}").into_bytes(), bytes)).collect();
    assert!(whole && found == expected, "every byte where it belongs");
}
