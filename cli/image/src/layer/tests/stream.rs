//! Makes tar streams, byte for byte, odd and broken ones too.

use std::fs::File;

use tar::{EntryType, Header};

use crate::layer::{LayerError, LayerSummary, convert};

/// A tar stream in the making.
#[derive(Clone, Default)]
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
}

/// An entry with everything that a PAX header can say.
#[derive(Clone)]
pub(super) struct Spec<'a> {
    pub(super) path: &'a [u8],
    pub(super) kind: EntryType,
    pub(super) link: &'a [u8],
    pub(super) content: &'a [u8],
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) mtime: &'a str,
    pub(super) xattrs: &'a [(&'a str, &'a [u8])],
    pub(super) device: (u32, u32),
}

impl<'a> Spec<'a> {
    pub(super) fn new(kind: EntryType, path: &'a [u8]) -> Self {
        Self {
            path,
            kind,
            link: b"",
            content: b"",
            mode: if kind == EntryType::Directory { 0o755 } else { 0o644 },
            owner: (0, 0),
            mtime: "1700000000",
            xattrs: &[],
            device: (0, 0),
        }
    }
}

/// One PAX record.
pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let digits = (1..).find(|n| (body.len() + n).to_string().len() == *n).unwrap();
    [(body.len() + digits).to_string().as_bytes(), &body].concat()
}

impl Stream {
    /// Appends a header as it is, and content filled up to whole blocks.
    pub(super) fn raw(&mut self, mut header: Header, content: &[u8]) -> &mut Self {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }

    /// Appends a PAX header.
    pub(super) fn pax(&mut self, records: &[u8]) -> &mut Self {
        self.raw(Self::header(EntryType::XHeader, records.len() as u64), records)
    }

    /// Appends an entry, every field in PAX records.
    pub(super) fn entry(&mut self, spec: &Spec) -> &mut Self {
        let mut records =
            [record("path", spec.path), record("mtime", spec.mtime.as_bytes())].concat();
        if !spec.link.is_empty() {
            records.extend(record("linkpath", spec.link));
        }
        for (name, value) in spec.xattrs {
            records.extend(record(&format!("SCHILY.xattr.{name}"), value));
        }
        records.extend(record("uid", spec.owner.0.to_string().as_bytes()));
        records.extend(record("gid", spec.owner.1.to_string().as_bytes()));
        let mut header = Self::header(spec.kind, spec.content.len() as u64);
        header.set_mode(spec.mode);
        header.set_device_major(spec.device.0).unwrap();
        header.set_device_minor(spec.device.1).unwrap();
        self.pax(&records).raw(header, spec.content)
    }

    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(&Spec { content, ..Spec::new(EntryType::Regular, path.as_bytes()) })
    }

    pub(super) fn directory(&mut self, path: &str) -> &mut Self {
        self.entry(&Spec::new(EntryType::Directory, path.as_bytes()))
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        let link = target.as_bytes();
        self.entry(&Spec { link, ..Spec::new(EntryType::Symlink, path.as_bytes()) })
    }

    pub(super) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        let link = target.as_bytes();
        self.entry(&Spec { link, ..Spec::new(EntryType::Link, path.as_bytes()) })
    }

    /// The stream with its end.
    pub(super) fn finished(&self) -> Vec<u8> {
        [self.bytes.as_slice(), &[0; 1024]].concat()
    }

    pub(super) fn try_convert(&self) -> Result<(File, LayerSummary), LayerError> {
        let image = tempfile::tempfile().unwrap();
        let summary = convert(self.finished().as_slice(), &image)?;
        Ok((image, summary))
    }

    pub(super) fn convert(&self) -> File {
        self.try_convert().unwrap().0
    }

    /// The error that converting ends with, and all its causes.
    pub(super) fn error(&self) -> String {
        let error = self.try_convert().map(|_| ()).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
