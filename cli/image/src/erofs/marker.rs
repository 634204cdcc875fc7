//! How a layer image says what a file system has no word for: as attributes that only a process
//! with CAP_SYS_ADMIN sees, in overlayfs's own form where there is one, so that layer images can
//! also be stacked by overlayfs.

use super::tree::{InodeId, Node, Tree, TreeError};
use super::xattr::{Xattr, XattrId};

/// The directory hides the one below it (overlayfs's own form).
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// The directory is not in the layer, only on the way to something that is.
const IMPLIED: &[u8] = b"trusted.husk.implied";
/// The file is one more name of the file at this path in the layers below.
const LOWER_LINK: &[u8] = b"trusted.husk.link";

/// Whether an attribute belongs to overlayfs or to us, so that a layer must not bring it along.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"trusted.husk.")
}

/// Adds the attributes that stand for what the tree's nodes say.
pub(crate) fn attach(tree: &mut Tree) -> Result<(), TreeError> {
    for id in tree.ids() {
        let mut markers = Vec::new();
        match &tree.get(id).node {
            Node::Directory(data) => {
                markers.extend(data.opaque.then(|| marker(OPAQUE, b"y")));
                markers.extend(data.implied.then(|| marker(IMPLIED, b"y")));
            }
            Node::LowerLink(target) => markers.push(marker(LOWER_LINK, target)),
            _ => {}
        }
        if !markers.is_empty() {
            push(tree, id, markers)?;
        }
    }
    Ok(())
}

fn marker(name: &[u8], value: &[u8]) -> Xattr {
    Xattr::new(name, value).expect("markers are legal attributes")
}

fn push(tree: &mut Tree, id: InodeId, markers: Vec<Xattr>) -> Result<(), TreeError> {
    let mut ids: Vec<XattrId> = tree.get(id).metadata.xattrs.to_vec();
    for xattr in markers {
        ids.push(tree.xattrs.intern(xattr)?);
    }
    tree.get_mut(id).metadata.xattrs = ids.into();
    Ok(())
}

/// What an inode's attributes say besides themselves.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Markers {
    pub(super) opaque: bool,
    pub(super) implied: bool,
    pub(super) lower_link: Option<Box<[u8]>>,
}

/// Takes the markers, and all else that [`is_reserved`], out of `xattrs`.
pub(super) fn detach(xattrs: &mut Vec<Xattr>) -> Markers {
    let mut markers = Markers::default();
    xattrs.retain(|xattr| {
        let name = xattr.name();
        match name.as_slice() {
            OPAQUE => markers.opaque = xattr.value() == b"y",
            IMPLIED => markers.implied = true,
            LOWER_LINK => markers.lower_link = Some(xattr.value().into()),
            _ => {}
        }
        !is_reserved(&name)
    });
    markers
}
