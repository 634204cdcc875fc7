//! What a reader sees of an image, as plain data to compare.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use crate::erofs::{FileType, Reader, Source, Timestamp};
use crate::layer::merge;

/// One path of an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Seen {
    pub(super) kind: FileType,
    pub(super) permissions: u16,
    pub(super) owner: (u32, u32),
    pub(super) mtime: Timestamp,
    pub(super) links: u32,
    pub(super) device: (u32, u32),
    /// Content, or a symlink's target.
    pub(super) content: Vec<u8>,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode.
    pub(super) first: String,
}

pub(super) type View = BTreeMap<String, Seen>;

/// Everything in an image. Paths start with `/`; bytes that are not ASCII are escaped.
pub(super) fn view<S: Source>(reader: &Reader<S>) -> View {
    let mut seen = View::new();
    let mut first_paths: BTreeMap<u64, String> = BTreeMap::new();
    let mut pending = vec![(String::new(), reader.root())];
    while let Some((path, nid)) = pending.pop() {
        let inode = reader.inode(nid).unwrap();
        let content = match inode.file_type {
            FileType::Regular => reader.read_all(&inode, 1 << 30).unwrap(),
            FileType::Symlink => reader.read_link(&inode).unwrap(),
            _ => Vec::new(),
        };
        let device = match inode.file_type {
            FileType::CharDevice | FileType::BlockDevice => inode.device(),
            _ => (0, 0),
        };
        let xattrs = reader.xattrs(&inode).unwrap();
        let name = |xattr: &crate::erofs::Xattr| String::from_utf8(xattr.name()).unwrap();
        let entry = Seen {
            kind: inode.file_type,
            permissions: inode.permissions,
            owner: (inode.uid, inode.gid),
            mtime: inode.mtime,
            links: inode.links,
            device,
            content,
            xattrs: xattrs.iter().map(|xattr| (name(xattr), xattr.value().to_vec())).collect(),
            first: String::new(),
        };
        seen.insert(if path.is_empty() { "/".to_owned() } else { path.clone() }, entry);
        let first = first_paths.entry(nid).or_insert_with(|| path.clone());
        *first = first.clone().min(path.clone());
        if inode.file_type == FileType::Directory {
            for entry in reader.list(&inode).unwrap() {
                pending.push((format!("{path}/{}", entry.name.escape_ascii()), entry.nid));
            }
        }
    }
    for (path, entry) in &mut seen {
        let nid = reader.lookup(&unescape(path), false).unwrap().unwrap().nid;
        entry.first.clone_from(&first_paths[&nid]);
    }
    seen
}

/// Undoes the escapes of [`view`].
fn unescape(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        (out, rest) = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let text = std::str::from_utf8(&digits).unwrap();
                out.push(u8::from_str_radix(text, 16).unwrap());
                (out, after)
            }
            (b'\\', [b'n', after @ ..]) => {
                out.push(b'\n');
                (out, after)
            }
            (b'\\', [escaped, after @ ..]) => {
                out.push(*escaped);
                (out, after)
            }
            _ => {
                out.push(*byte);
                (out, after)
            }
        };
    }
    out
}

pub(super) fn view_image(image: &File) -> View {
    view(&Reader::open(image).unwrap())
}

/// Merges layers and views the result, once with the layers behind the metadata image on one
/// device, once as devices of their own.
pub(super) fn view_merged(layers: &[File]) -> View {
    let metadata = tempfile::tempfile().unwrap();
    let size = merge(layers, &metadata).unwrap();
    assert_eq!(size, metadata.size().unwrap());
    let mut flat = tempfile::tempfile().unwrap();
    for file in std::iter::once(&metadata).chain(layers) {
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        assert_eq!(bytes.len() % 4096, 0);
        file.read_exact_at(&mut bytes, 0).unwrap();
        flat.write_all(&bytes).unwrap();
    }
    let flat_view = view_image(&flat);
    let devices = Reader::with_devices(&metadata, layers.iter().collect()).unwrap();
    assert_eq!(view(&devices), flat_view);
    flat_view
}

/// The content of the file at `path`.
pub(super) fn text(view: &View, path: &str) -> String {
    String::from_utf8(view[path].content.clone()).unwrap()
}
