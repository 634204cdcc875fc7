//! Images that someone has tampered with give errors, never panics, and bounded work.

use super::stream::{Spec, Stream};
use crate::erofs::{Reader, Source, import};
use crate::layer::read_layer;

use tar::EntryType;

/// A small image with something of everything.
fn image() -> Vec<u8> {
    let mut stream = Stream::default();
    stream
        .file("small", b"inline")
        .file("large", &[3; 9000])
        .symlink("soft", "small")
        .link("dir/hard", "large")
        .file("dir/.wh.hidden", b"")
        .link("lower", "not/here")
        .entry(&Spec {
            xattrs: &[("user.shared", b"1"), ("user.own", b"2")],
            ..Spec::new(EntryType::Regular, b"x1")
        })
        .entry(&Spec { xattrs: &[("user.shared", b"1")], ..Spec::new(EntryType::Fifo, b"x2") });
    let file = stream.convert();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Fills in the superblock's checksum.
fn seal(image: &mut [u8]) {
    image[1028..1032].fill(0);
    let checksum = !crc32c::crc32c(&image[1024..4096]);
    image[1028..1032].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads all there is to read.
fn exercise(image: &[u8]) {
    let _ = read_layer(image, 1);
    let Ok(reader) = Reader::open(image) else { return };
    let _ = import(&reader, 1);
    for path in [b"small".as_slice(), b"large", b"soft", b"dir/hard", b"x1", b"x2"] {
        if let Ok(Some(inode)) = reader.lookup(path, true) {
            let _ = reader.read_all(&inode, 1 << 16);
            let _ = reader.xattrs(&inode);
            let mut buffer = [0; 100];
            let _ = reader.read(&inode, inode.size.saturating_sub(50), &mut buffer);
        }
    }
}

#[test]
fn no_byte_of_an_image_makes_the_reader_panic() {
    let good = image();
    assert!(read_layer(good.as_slice(), 1).is_ok());
    let meta = u32::from_le_bytes(good[1064..1068].try_into().unwrap()) as usize * 4096;
    let superblock = 1024..1152;
    for position in superblock.chain(meta..good.len()) {
        for byte in [0, 1, 0x0c, 0x1f, 0x41, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[position] = byte;
            if position < 4096 && !(1028..1032).contains(&position) {
                seal(&mut bad);
            }
            exercise(&bad);
        }
    }
}

#[test]
fn an_image_cut_anywhere_is_refused() {
    let good = image();
    for length in (0..good.len()).step_by(61) {
        assert!(read_layer(&good[..length], 1).is_err(), "{length}");
    }
    let longer = [good.as_slice(), &[0; 4096]].concat();
    assert!(read_layer(longer.as_slice(), 1).is_err());
}

#[test]
fn a_wrong_checksum_is_noticed() {
    let mut bad = image();
    bad[2000] ^= 1;
    assert!(Reader::open(bad.as_slice()).is_err());
    seal(&mut bad);
    assert!(Reader::open(bad.as_slice()).is_ok());
}

#[test]
fn a_directory_with_two_names_is_refused() {
    let mut bytes = image();
    // Every entry of every directory named the root: the simplest loop there is.
    let reader = Reader::open(bytes.as_slice()).unwrap();
    let directory = reader.lookup(b"dir", false).unwrap().unwrap();
    let (root, target) = (reader.root(), directory.nid);
    let meta = u32::from_le_bytes(bytes[1064..1068].try_into().unwrap()) as usize * 4096;
    let mut changed = 0;
    for position in (meta..bytes.len() - 12).step_by(4) {
        let entry = &bytes[position..position + 12];
        if entry[..8] == target.to_le_bytes() && entry[10] == 2 {
            bytes[position..position + 8].copy_from_slice(&root.to_le_bytes());
            changed += 1;
        }
    }
    assert!(changed > 0);
    assert!(read_layer(bytes.as_slice(), 1).unwrap_err().to_string().contains("two names"));
}
