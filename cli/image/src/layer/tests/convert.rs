//! One layer: what goes in comes out.

use std::collections::BTreeMap;
use std::io::Read;

use tar::EntryType;

use super::stream::{Spec, Stream, record};
use super::view::{Seen, View, text, view_image, view_merged};
use crate::erofs::{FileType, Reader, Source, Timestamp};
use crate::layer::{convert, system_image};

/// `length` bytes that repeat nowhere near a block's length.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n * 7 + n / 251) % 256).unwrap()).collect()
}

#[test]
fn files_of_every_length_come_out_as_they_went_in() {
    let lengths =
        [0, 1, 2047, 2048, 2049, 4031, 4032, 4095, 4096, 4097, 8191, 8192, 8193, 1_000_000];
    let mut stream = Stream::default();
    for length in lengths {
        stream.file(&format!("file-{length}"), &pattern(length));
    }
    let layer = stream.convert();
    for seen in [view_image(&layer), view_merged(&[layer])] {
        for length in lengths {
            assert_eq!(seen[&format!("/file-{length}")].content, pattern(length), "{length}");
        }
    }
}

#[test]
fn symlinks_of_every_length_come_out_as_they_went_in() {
    let lengths: Vec<usize> = (1..4096).filter(|n| n % 97 == 1 || *n > 4020 || *n < 20).collect();
    let mut stream = Stream::default();
    for length in &lengths {
        stream.symlink(&format!("link-{length}"), &"t/".repeat(2048)[..*length]);
    }
    let seen = view_merged(&[stream.convert()]);
    for length in lengths {
        assert_eq!(seen[&format!("/link-{length}")].content.len(), length);
        assert_eq!(seen[&format!("/link-{length}")].permissions, 0o777);
    }
}

#[test]
fn metadata_are_exact() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice();
    let all: Vec<u8> = (0..=255).collect();
    let big = pattern(60_000);
    let xattrs = [
        ("security.capability", capability),
        ("system.posix_acl_access", b"\x02\0\0\0"),
        ("trusted.t", b""),
        ("user.all", &all),
        ("user.big", &big),
    ];
    let mut stream = Stream::default();
    stream
        .entry(&Spec {
            content: b"cap",
            mode: 0o4755,
            owner: (70_000, 4_000_000_000),
            mtime: "1234567890.123456789",
            xattrs: &xattrs,
            ..Spec::new(EntryType::Regular, b"program")
        })
        .entry(&Spec { mtime: "-1.5", mode: 0o1777, ..Spec::new(EntryType::Directory, b"old") })
        .entry(&Spec { device: (4095, 0xf_ffff), ..Spec::new(EntryType::Block, b"disk") })
        .entry(&Spec { device: (1, 3), ..Spec::new(EntryType::Char, b"null") })
        .entry(&Spec::new(EntryType::Fifo, b"pipe"))
        .file("caf\u{e9}", b"utf-8");
    stream.entry(&Spec::new(EntryType::Regular, b"\xff\xfe\n"));
    for seen in [view_image(&stream.convert()), view_merged(&[stream.convert()])] {
        let expected = Seen {
            kind: FileType::Regular,
            permissions: 0o4755,
            owner: (70_000, 4_000_000_000),
            mtime: Timestamp { seconds: 1_234_567_890, nanoseconds: 123_456_789 },
            links: 1,
            device: (0, 0),
            content: b"cap".to_vec(),
            xattrs: xattrs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect(),
            first: "/program".to_owned(),
        };
        assert_eq!(seen["/program"], expected);
        assert_eq!(seen["/old"].mtime, Timestamp { seconds: -2, nanoseconds: 500_000_000 });
        assert_eq!(seen["/old"].permissions, 0o1777);
        assert_eq!(seen["/disk"].device, (4095, 0xf_ffff));
        assert_eq!(seen["/null"].device, (1, 3));
        assert_eq!(seen["/pipe"].kind, FileType::Fifo);
        assert_eq!(seen["/null"].mtime, Timestamp { seconds: 1_700_000_000, nanoseconds: 0 });
        assert!(seen.contains_key("/caf\\xc3\\xa9") && seen.contains_key("/\\xff\\xfe\\n"));
    }
}

#[test]
fn attributes_of_reserved_or_unknown_name_spaces_are_left_out() {
    let mut stream = Stream::default();
    stream.entry(&Spec {
        xattrs: &[
            ("trusted.overlay.opaque", b"y"),
            ("trusted.husk.link", b"etc/shadow"),
            ("com.apple.quarantine", b"x"),
            ("user.kept", b"1"),
        ],
        ..Spec::new(EntryType::Regular, b"file")
    });
    let expected = BTreeMap::from([("user.kept".to_owned(), b"1".to_vec())]);
    assert_eq!(view_image(&stream.convert())["/file"].xattrs, expected);
}

#[test]
fn hard_links_are_one_file() {
    let mut stream = Stream::default();
    stream
        .file("a/one", &pattern(9000))
        .link("b/two", "a/one")
        .link("three", "/b/two")
        .symlink("soft", "a")
        .link("four", "./soft/one");
    let seen = view_merged(&[stream.convert()]);
    for path in ["/a/one", "/b/two", "/three", "/four"] {
        assert_eq!((seen[path].links, seen[path].first.as_str()), (4, "/a/one"), "{path}");
        assert_eq!(seen[path].content, pattern(9000));
    }
    assert_eq!(seen["/"].links, 4);
}

#[test]
fn a_directory_of_thousands_and_a_deep_path_are_found() {
    let deep = (0..40).map(|n| format!("level-{n}")).collect::<Vec<_>>().join("/");
    let long = "n".repeat(255);
    let mut stream = Stream::default();
    stream
        .file(&format!("{deep}/{long}"), b"bottom")
        .file("!before-dot", b"")
        .file(".-between", b"");
    for number in 0..5000 {
        stream.file(&format!("many/entry-{number}"), number.to_string().as_bytes());
    }
    let seen = view_merged(&[stream.convert()]);
    assert_eq!(text(&seen, &format!("/{deep}/{long}")), "bottom");
    assert!((0..5000).all(|n| text(&seen, &format!("/many/entry-{n}")) == n.to_string()));
    assert_eq!(seen.keys().filter(|path| path.starts_with("/many/")).count(), 5000);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut stream = Stream::default();
    stream
        .file("file", b"old")
        .file("file", b"new")
        .directory("kept")
        .file("kept/inside", b"1")
        .entry(&Spec { mode: 0o700, ..Spec::new(EntryType::Directory, b"kept") })
        .directory("gone")
        .file("gone/inside", b"1")
        .symlink("gone", "kept")
        .file("was-file", b"")
        .directory("was-file");
    let seen = view_merged(&[stream.convert()]);
    assert_eq!(text(&seen, "/file"), "new");
    assert_eq!(seen["/kept"].permissions, 0o700);
    assert_eq!(text(&seen, "/kept/inside"), "1");
    assert_eq!(seen["/gone"].kind, FileType::Symlink);
    assert!(!seen.contains_key("/gone/inside"));
    assert_eq!(seen["/was-file"].kind, FileType::Directory);
}

#[test]
fn parents_are_made_and_symlinks_on_the_way_followed_inside_the_root() {
    let mut stream = Stream::default();
    stream
        .file("made/for/it", b"1")
        .directory("usr/lib")
        .symlink("lib", "../../usr/lib")
        .file("lib/libc.so", b"2")
        .symlink("abs", "/usr")
        .file("abs/lib/libm.so", b"3")
        .symlink("dangling", "var/run")
        .file("dangling/pid", b"4")
        .file("../../../escaped", b"5");
    let seen = view_merged(&[stream.convert()]);
    assert_eq!(seen["/made/for"].permissions, 0o755);
    assert_eq!(seen["/made/for"].mtime, Timestamp::default());
    assert_eq!(text(&seen, "/usr/lib/libc.so"), "2");
    assert_eq!(text(&seen, "/usr/lib/libm.so"), "3");
    assert_eq!(text(&seen, "/var/run/pid"), "4");
    assert_eq!(text(&seen, "/escaped"), "5");
    assert_eq!(seen["/lib"].kind, FileType::Symlink);
}

/// A sparse file of 10 MiB: data at 1 MiB and in the last bytes.
fn sparse_content() -> Vec<u8> {
    let mut content = vec![0; 10 << 20];
    content[1 << 20..(1 << 20) + 10_000].copy_from_slice(&pattern(10_000));
    let end = content.len() - 700;
    content[end..].copy_from_slice(&pattern(700));
    content
}

#[test]
fn sparse_files_of_every_format_come_out_whole() {
    let content = sparse_content();
    let end = content.len() - 700;
    let data = [pattern(10_000), pattern(700)].concat();
    let map = format!("2\n{}\n10000\n{end}\n700\n", 1 << 20);
    let mut padded = map.into_bytes();
    padded.resize(512, 0);
    let stored = [padded, data.clone()].concat();
    let size = record("GNU.sparse.realsize", content.len().to_string().as_bytes());
    let mut stream = Stream::default();
    let major = [record("GNU.sparse.major", b"1"), record("GNU.sparse.minor", b"0")].concat();
    stream.pax(&[record("GNU.sparse.name", b"v10"), major, size.clone()].concat());
    stream.raw(Stream::header(EntryType::Regular, stored.len() as u64), &stored);
    let map = record("GNU.sparse.map", format!("{},10000,{end},700", 1 << 20).as_bytes());
    stream.pax(&[record("path", b"v01"), map, size.clone()].concat());
    stream.raw(Stream::header(EntryType::Regular, data.len() as u64), &data);
    let pair = |offset: usize, length: &str| {
        let offset = record("GNU.sparse.offset", offset.to_string().as_bytes());
        [offset, record("GNU.sparse.numbytes", length.as_bytes())].concat()
    };
    let pairs = [pair(1 << 20, "10000"), pair(end, "700")].concat();
    stream.pax(&[record("path", b"v00"), pairs, size].concat());
    stream.raw(Stream::header(EntryType::Regular, data.len() as u64), &data);
    let mut header = tar::Header::new_gnu();
    header.set_path("gnu").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(data.len() as u64);
    for (set, value) in [(0, 0o644), (1, 0), (2, 0)] {
        match set {
            0 => header.set_mode(value),
            1 => header.set_uid(u64::from(value)),
            _ => header.set_gid(u64::from(value)),
        }
    }
    header.set_mtime(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(content.len() as u64);
    for (slot, (offset, length)) in [(1 << 20, 10_000), (end as u64, 700)].into_iter().enumerate() {
        gnu.sparse[slot].set_offset(offset);
        gnu.sparse[slot].set_length(length);
    }
    stream.raw(header, &data);
    let layer = stream.convert();
    assert!(layer.size().unwrap() < 1 << 20, "holes take no space");
    for seen in [view_image(&layer), view_merged(&[layer])] {
        for path in ["/v10", "/v01", "/v00", "/gnu"] {
            assert!(seen[path].content == content, "{path}");
        }
    }
}

#[test]
fn a_pax_size_wins_over_the_header_s() {
    let mut hidden = Stream::default();
    hidden.file("smuggled", b"evil");
    let mut stream = Stream::default();
    stream.pax(
        &[record("path", b"outer"), record("size", hidden.bytes.len().to_string().as_bytes())]
            .concat(),
    );
    stream.raw(Stream::header(EntryType::Regular, 0), &hidden.bytes.clone());
    stream.file("last", b"1");
    let seen = view_image(&stream.convert());
    assert_eq!(seen["/outer"].content, hidden.bytes);
    assert!(!seen.contains_key("/smuggled") && seen.contains_key("/last"));
}

#[test]
fn gnu_long_names_and_old_headers_are_read() {
    let name = "long/".repeat(60) + "name";
    let mut stream = Stream::default();
    let text = format!("{name}\0");
    stream.raw(Stream::header(EntryType::GNULongName, text.len() as u64), text.as_bytes());
    stream.raw(Stream::header(EntryType::Regular, 3), b"abc");
    let mut header = tar::Header::new_old();
    header.set_path("dir-by-slash/").unwrap();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header.set_size(0);
    header.as_mut_bytes()[156] = 0;
    stream.raw(header, b"");
    stream.raw(Stream::header(EntryType::XGlobalHeader, 5), b"junk!");
    let seen = view_image(&stream.convert());
    assert_eq!(seen[&format!("/{name}")].content, b"abc");
    assert_eq!(seen["/dir-by-slash"].kind, FileType::Directory);
}

#[test]
fn whiteouts_stay_in_the_layer_in_overlayfs_form() {
    let mut stream = Stream::default();
    stream
        .file("a/.wh.removed", b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"1")
        .directory("c/again")
        .file("c/.wh.again", b"")
        .file("c/.wh.file", b"")
        .file("c/file", b"2")
        .file(".wh..wh.plnk/12.34", b"ignored");
    let seen = view_image(&stream.convert());
    let opaque = |path: &str| seen[path].xattrs.get("trusted.overlay.opaque").map(Vec::as_slice);
    assert_eq!(seen["/a/removed"].kind, FileType::CharDevice);
    assert_eq!(seen["/a/removed"].device, (0, 0));
    assert_eq!(opaque("/b"), Some(b"y".as_slice()));
    assert_eq!(opaque("/c/again"), Some(b"y".as_slice()));
    assert_eq!(opaque("/c"), None);
    assert_eq!(text(&seen, "/c/file"), "2");
    assert!(seen.keys().all(|path| !path.contains(".wh.")));
}

#[test]
fn the_same_stream_gives_the_same_bytes() {
    let mut stream = Stream::default();
    for number in 0..300 {
        stream.entry(&Spec {
            xattrs: &[("user.a", b"same"), ("user.b", b"same")],
            content: &pattern(number * 50),
            mtime: if number % 3 == 0 { "1" } else { "2.5" },
            ..Spec::new(EntryType::Regular, format!("d{}/f{number}", number % 7).as_bytes())
        });
    }
    let bytes = |file: &std::fs::File| {
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let layers = [stream.convert(), stream.convert()];
    assert!(bytes(&layers[0]) == bytes(&layers[1]));
    let merged = layers.map(|layer| {
        let output = tempfile::tempfile().unwrap();
        crate::layer::merge(&[layer], &output).unwrap();
        bytes(&output)
    });
    assert!(merged[0] == merged[1]);
}

/// Gives a stream's bytes a few at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 % 700 + 13;
        let length = self.1.min(buffer.len()).min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

#[test]
fn a_trickling_stream_and_an_output_in_use_make_no_difference() {
    let mut stream = Stream::default();
    stream.file("one", &pattern(100_000)).file("two", &pattern(600)).directory("three");
    let image = tempfile::tempfile().unwrap();
    image.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&image, &[0xaa; 1 << 20], 0).unwrap();
    let summary = convert(Trickle(&stream.finished(), 1), &image).unwrap();
    assert_eq!(view_image(&image), view_image(&stream.convert()));
    assert_eq!((summary.entries, summary.content_bytes), (3, 100_600));
    assert_eq!(summary.image_bytes, image.size().unwrap());
}

#[test]
fn an_empty_stream_is_an_empty_layer() {
    let image = tempfile::tempfile().unwrap();
    assert_eq!(convert(std::io::empty(), &image).unwrap().entries, 0);
    assert_eq!(view_image(&image).len(), 1);
}

#[test]
fn a_system_image_holds_the_program_and_mount_points() {
    for program in [pattern(100), pattern(1_000_000), Vec::new()] {
        let image = tempfile::tempfile().unwrap();
        system_image("husk-agent", &program, &image).unwrap();
        let seen: View = view_image(&image);
        assert!(seen["/sbin/husk-agent"].content == program);
        assert_eq!(seen["/sbin/husk-agent"].permissions, 0o755);
        for path in ["/dev", "/proc", "/sys", "/run", "/tmp", "/mnt"] {
            assert_eq!(seen[path].kind, FileType::Directory, "{path}");
        }
    }
    let image = tempfile::tempfile().unwrap();
    for bad in ["", "a/b", "..", &"n".repeat(256)] {
        assert!(system_image(bad, b"", &image).is_err());
    }
}

#[test]
fn lookup_follows_symlinks_inside_the_image() {
    let mut stream = Stream::default();
    stream
        .file("usr/lib/passwd", b"root")
        .symlink("etc", "../../usr/etc")
        .symlink("usr/etc/passwd", "/usr/lib/passwd")
        .symlink("loop", "loop");
    let image = stream.convert();
    let reader = Reader::open(&image).unwrap();
    let found = reader.lookup(b"/etc/passwd", true).unwrap().unwrap();
    assert_eq!(reader.read_all(&found, 100).unwrap(), b"root");
    assert!(reader.read_all(&found, 3).is_err());
    assert_eq!(reader.lookup(b"/etc/passwd", false).unwrap().unwrap().file_type, FileType::Symlink);
    assert!(reader.lookup(b"/loop/x", true).is_err());
    assert_eq!(reader.lookup(b"/usr/lib/passwd/x", true).unwrap(), None);
    assert_eq!(reader.lookup(b"/none", true).unwrap(), None);
}
