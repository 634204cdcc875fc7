//! Tar streams of odd entries whose checksums are right.

use arbitrary::Arbitrary;
use tar::{EntryType, Header};

/// One entry.
#[derive(Arbitrary, Clone, Debug)]
pub struct Entry {
    kind: Kind,
    path: Path,
    link: Path,
    mode: u16,
    owner: u8,
    mtime: i32,
    content: Vec<u8>,
    /// What the header says of the content's length, if not the truth.
    lie: Option<u16>,
    pax: Vec<Pax>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Kind {
    File,
    OldFile,
    Directory,
    Symlink,
    Link,
    Char,
    Block,
    Fifo,
    Continuous,
    GnuLongName,
    GnuLongLink,
    GnuSparse,
    Global,
    Other(u8),
}

/// A path of a few components, plain or evil.
#[derive(Arbitrary, Clone, Debug)]
struct Path {
    parts: Vec<Component>,
    absolute: bool,
    slash: bool,
}

#[derive(Arbitrary, Clone, Debug)]
enum Component {
    A,
    B,
    Up,
    Here,
    Empty,
    WhiteoutA,
    Whiteout,
    Opaque,
    WhiteoutUp,
    Long(u8),
    Any(Vec<u8>),
}

#[derive(Arbitrary, Clone, Debug)]
enum Pax {
    Path(Path),
    LinkPath(Path),
    Size(u32),
    Mtime(u8),
    Uid(u32),
    Attribute(u8, Vec<u8>),
    Sparse(u8, u8),
    Any(Vec<u8>, Vec<u8>),
}

impl Path {
    fn bytes(&self) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = self.parts.iter().take(12).map(Component::bytes).collect();
        let mut path = if self.absolute { b"/".to_vec() } else { Vec::new() };
        path.extend(parts.join(&b'/'));
        if self.slash {
            path.push(b'/');
        }
        path
    }
}

impl Component {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::A => b"a".to_vec(),
            Self::B => b"b".to_vec(),
            Self::Up => b"..".to_vec(),
            Self::Here => b".".to_vec(),
            Self::Empty => Vec::new(),
            Self::WhiteoutA => b".wh.a".to_vec(),
            Self::Whiteout => b".wh.".to_vec(),
            Self::Opaque => b".wh..wh..opq".to_vec(),
            Self::WhiteoutUp => b".wh...".to_vec(),
            Self::Long(length) => vec![b'l'; usize::from(*length) + 100],
            Self::Any(bytes) => bytes.iter().copied().take(64).collect(),
        }
    }
}

impl Pax {
    fn record(&self) -> Vec<u8> {
        let (key, value) = match self {
            Self::Path(path) => (b"path".to_vec(), path.bytes()),
            Self::LinkPath(path) => (b"linkpath".to_vec(), path.bytes()),
            Self::Size(size) => (b"size".to_vec(), size.to_string().into_bytes()),
            Self::Mtime(digit) => (b"mtime".to_vec(), format!("-{digit}.5").into_bytes()),
            Self::Uid(uid) => (b"uid".to_vec(), uid.to_string().into_bytes()),
            Self::Attribute(name, value) => {
                (format!("SCHILY.xattr.user.{name}").into_bytes(), value.clone())
            }
            Self::Sparse(offset, length) => {
                (b"GNU.sparse.map".to_vec(), format!("{offset},{length}").into_bytes())
            }
            Self::Any(key, value) => (key.clone(), value.clone()),
        };
        // The length counts its own digits.
        let body = key.len() + value.len() + 3;
        let digits = (body + 1).to_string().len();
        let digits = (body + digits).to_string().len();
        let mut record = format!("{} ", body + digits).into_bytes();
        record.extend(key);
        record.push(b'=');
        record.extend(value);
        record.push(b'\n');
        record
    }
}

impl Entry {
    fn push(&self, stream: &mut Vec<u8>) {
        if !self.pax.is_empty() {
            let records: Vec<u8> = self.pax.iter().take(6).flat_map(Pax::record).collect();
            let kind = if matches!(self.kind, Kind::Global) { b'g' } else { b'x' };
            block(stream, header(kind, b"pax", b"", records.len() as u64), &records);
        }
        let kind = match self.kind {
            Kind::File => b'0',
            Kind::OldFile => 0,
            Kind::Link => b'1',
            Kind::Symlink => b'2',
            Kind::Char => b'3',
            Kind::Block => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
            Kind::Continuous => b'7',
            Kind::GnuLongName => b'L',
            Kind::GnuLongLink => b'K',
            Kind::GnuSparse => b'S',
            Kind::Global => b'g',
            Kind::Other(kind) => kind,
        };
        let content = &self.content[..self.content.len().min(8192)];
        let size = self.lie.map_or(content.len() as u64, u64::from);
        let mut header = header(kind, &self.path.bytes(), &self.link.bytes(), size);
        header.set_mode(self.mode.into());
        header.set_uid(self.owner.into());
        header.set_gid(self.owner.into());
        header.set_mtime(u64::from(self.mtime.unsigned_abs()));
        let _ = header.set_device_major(u32::from(self.mode) & 0xff);
        block(stream, header, content);
    }
}

/// A stream of those entries, ended as it should be.
pub fn tar_stream(entries: &[Entry]) -> Vec<u8> {
    let mut stream = Vec::new();
    for entry in entries.iter().take(24) {
        entry.push(&mut stream);
    }
    stream.extend([0; 1024]);
    stream
}

/// An honest stream of those files.
pub fn honest_stream(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (path, content) in files {
        let mut header = header(b'0', path.as_bytes(), b"", content.len() as u64);
        header.set_mode(0o644);
        block(&mut stream, header, content);
    }
    stream.extend([0; 1024]);
    stream
}

fn header(kind: u8, path: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::new(kind));
    header.set_size(size);
    let old = header.as_old_mut();
    put(&mut old.name, path);
    put(&mut old.linkname, link);
    header
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

fn block(stream: &mut Vec<u8>, mut header: Header, content: &[u8]) {
    header.set_cksum();
    stream.extend_from_slice(header.as_bytes());
    stream.extend_from_slice(content);
    stream.resize(stream.len().next_multiple_of(512), 0);
}
