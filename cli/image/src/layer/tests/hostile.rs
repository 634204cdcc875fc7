//! Streams that are broken or mean harm end with one clear error.

use std::io;

use tar::EntryType;

use super::stream::{Spec, Stream, record};
use crate::layer::{LayerError, convert};

/// The error of a stream with one entry.
fn error_of(spec: &Spec) -> String {
    Stream::default().entry(spec).error()
}

#[test]
fn a_stream_cut_anywhere_is_refused_or_ends_at_an_entry() {
    let mut stream = Stream::default();
    stream.file("first", &[1; 600]).file("second", &[2; 5000]).directory("third");
    let whole = stream.bytes.clone();
    for length in (0..whole.len()).step_by(37) {
        let image = tempfile::tempfile().unwrap();
        match convert(&whole[..length], &image) {
            Ok(_) => assert_eq!(length % 512, 0),
            Err(LayerError::Tar { .. }) => {}
            Err(error) => panic!("{length}: {error}"),
        }
    }
}

#[test]
fn no_byte_of_a_stream_makes_the_converter_panic() {
    let mut stream = Stream::default();
    stream
        .entry(&Spec { xattrs: &[("user.a", b"b")], ..Spec::new(EntryType::Regular, b"a/b") })
        .link("link", "a/b")
        .symlink("soft", "a");
    stream.pax(&[record("GNU.sparse.map", b"0,3"), record("GNU.sparse.size", b"9000")].concat());
    stream.raw(Stream::header(EntryType::Regular, 3), b"abc");
    let whole = stream.finished();
    let image = tempfile::tempfile().unwrap();
    for position in 0..whole.len() {
        for byte in [0, b'0', b'7', b'9', b'=', 0x80, 0xff] {
            let mut bad = whole.clone();
            bad[position] = byte;
            let block = position / 512 * 512;
            // With a right checksum the change gets further.
            if bad[block + 257..block + 262] == *b"ustar" {
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bad[block..block + 512]);
                header.set_cksum();
                bad[block..block + 512].copy_from_slice(header.as_bytes());
            }
            let _ = convert(bad.as_slice(), &image);
        }
    }
}

#[test]
fn garbage_is_not_a_tar_stream() {
    let image = tempfile::tempfile().unwrap();
    let garbage = vec![b'x'; 10_000];
    assert!(matches!(convert(garbage.as_slice(), &image), Err(LayerError::Tar { .. })));
    let mut trailing = Stream::default().file("a", b"b").finished();
    trailing.extend_from_slice(&[0; 4096]);
    assert!(convert(trailing.as_slice(), &image).is_ok());
    trailing.push(1);
    let error = convert(trailing.as_slice(), &image).unwrap_err();
    assert!(matches!(error, LayerError::Tar { .. }), "{error}");
}

#[test]
fn a_stream_that_fails_hands_its_error_on() {
    struct Failing;
    impl io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("wrong digest"))
        }
    }
    let image = tempfile::tempfile().unwrap();
    let error = convert(Failing, &image).unwrap_err();
    assert!(matches!(error, LayerError::Read(source) if source.to_string() == "wrong digest"));
}

#[test]
fn a_failed_conversion_leaves_no_valid_image() {
    let image = tempfile::tempfile().unwrap();
    let mut bytes = Stream::default().file("a", &[1; 9000]).finished();
    bytes.truncate(5000);
    assert!(convert(bytes.as_slice(), &image).is_err());
    assert!(crate::erofs::Reader::open(&image).is_err());
}

#[test]
fn paths_over_a_limit_are_refused_by_name() {
    let file = |path: &[u8]| error_of(&Spec::new(EntryType::Regular, path));
    assert!(file(&[b'n'; 256]).contains("longer than 255"));
    assert!(file(&b"a/".repeat(1025)).contains("more than 1024 components"));
    assert!(file(&b"a/".repeat(100_000)).contains("longer than 4096"));
    assert!(file(b"dir/.wh.").contains("dir/.wh."));
    assert!(file(b"/").contains("only a directory can be the root"));
}

/// Directories nested `hops` thousand deep, by symlinks to what was made before.
fn nested(hops: usize) -> Stream {
    let mut stream = Stream::default();
    let step = "d/".repeat(1000);
    let mut at = "start".to_owned();
    for hop in 0..hops {
        stream.directory(&format!("{at}/{step}"));
        stream.symlink(&format!("hop-{hop}"), &format!("{at}/{step}"));
        at = format!("hop-{hop}");
    }
    stream
}

#[test]
fn depth_by_way_of_symlinks_is_bounded_and_nothing_recurses() {
    let output = tempfile::tempfile().unwrap();
    let image = nested(7).convert();
    assert!(crate::layer::merge(&[image], &output).is_ok());
    assert!(nested(100).error().contains("too many symlinks"));
}

#[test]
fn loops_of_symlinks_are_refused() {
    let mut stream = Stream::default();
    stream.symlink("a", "b").symlink("b", "a").file("a/file", b"");
    assert!(stream.error().contains("too many symlinks"));
}

#[test]
fn files_that_only_claim_to_be_large_are_refused() {
    let mut stream = Stream::default();
    let size = (1_u64 << 50).to_string();
    stream.pax(
        &[
            record("path", b"huge"),
            record("GNU.sparse.map", b""),
            record("GNU.sparse.size", size.as_bytes()),
        ]
        .concat(),
    );
    stream.raw(Stream::header(EntryType::Regular, 0), b"");
    assert!(stream.error().contains("huge"));
    let mut stream = Stream::default();
    stream.pax(&record("size", b"18446744073709551615"));
    stream.raw(Stream::header(EntryType::Regular, 0), b"");
    assert!(stream.error().contains("size"));
}

#[test]
fn holes_cost_metadata_in_proportion_to_the_stream() {
    let mut stream = Stream::default();
    for n in 0..50 {
        let records = [
            record("path", format!("holes-{n}").as_bytes()),
            record("GNU.sparse.map", b""),
            record("GNU.sparse.size", (1_u64 << 43).to_string().as_bytes()),
        ];
        stream.pax(&records.concat());
        stream.raw(Stream::header(EntryType::Regular, 0), b"");
    }
    let (_, summary) = stream.try_convert().unwrap();
    assert!(summary.image_bytes < 1 << 20, "{summary:?}");
}

#[test]
fn attributes_over_a_limit_are_refused() {
    let value = vec![1; 65_000];
    let many: Vec<String> = (0..129).map(|n| format!("user.{n}")).collect();
    let xattrs: Vec<(&str, &[u8])> =
        many.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    let spec = Spec { xattrs: &xattrs, ..Spec::new(EntryType::Regular, b"many") };
    assert!(error_of(&spec).contains("128 extended attributes"));
    let xattrs: Vec<(&str, &[u8])> =
        many.iter().take(3).map(|name| (name.as_str(), value.as_slice())).collect();
    let spec = Spec { xattrs: &xattrs, ..Spec::new(EntryType::Regular, b"large") };
    assert!(error_of(&spec).contains("128 KiB"));
}

#[test]
fn extension_headers_are_bounded_and_belong_to_one_entry() {
    let mut stream = Stream::default();
    stream.raw(Stream::header(EntryType::XHeader, 2 << 20), b"");
    assert!(stream.error().contains("longer than 1048576"));
    let mut stream = Stream::default();
    stream.pax(&record("path", b"a")).pax(&record("path", b"b")).file("c", b"");
    assert!(stream.error().contains("two extension headers"));
    let mut stream = Stream::default();
    stream.pax(&record("path", b"a"));
    assert!(stream.error().contains("ends too early"));
    let mut stream = Stream::default();
    stream.pax(b"12 path=a\0b\n");
    assert!(stream.error().contains("PAX record"));
}

#[test]
fn what_a_layer_cannot_hold_is_refused() {
    let link = |target: &'static [u8]| Spec { link: target, ..Spec::new(EntryType::Link, b"name") };
    let mut stream = Stream::default();
    stream.directory("dir").entry(&link(b"dir"));
    assert!(stream.error().contains("hard link to a directory"));
    let mut stream = Stream::default();
    stream.file("file", b"").file("file/below", b"");
    assert!(stream.error().contains("not a directory"));
    let long = vec![b't'; 4096];
    let symlink = Spec { link: &long, ..Spec::new(EntryType::Symlink, b"long") };
    assert!(error_of(&symlink).contains("4095"));
    assert!(error_of(&Spec::new(EntryType::Symlink, b"empty")).contains("1 to 4095"));
    let dump = Spec::new(EntryType::new(b'D'), b"dumpdir");
    assert!(error_of(&dump).contains("dumpdir has the unsupported entry type 'D'"));
    let device = Spec { device: (4096, 0), ..Spec::new(EntryType::Char, b"dev") };
    assert!(error_of(&device).contains("device number"));
    let owner = Spec { owner: (u32::MAX, 0), ..Spec::new(EntryType::Regular, b"owner") };
    assert!(error_of(&owner).contains("uid"));
}

#[test]
fn control_characters_do_not_reach_a_message() {
    let spec = Spec { link: b"", ..Spec::new(EntryType::Symlink, b"a\nb\x1b[31m") };
    let error = error_of(&spec);
    assert!(!error.contains('\n') && !error.contains('\x1b'), "{error:?}");
}
