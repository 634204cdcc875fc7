//! Reading a whole EROFS image, as a guest's kernel might.

use husk_image::erofs::{FileType, InodeInfo, ReadError, Reader, Source};

/// Inodes and content that are looked at: a hostile image names the same ones over and over.
const INODES_MAX: usize = 4096;
const CONTENT_MAX: u64 = 4 << 20;

/// Walks an image and reads everything in it, as far as the bounds allow. Returns the paths of the
/// files with their content, and whether all of it was read.
///
/// # Errors
/// Where the image is unsound.
pub fn read_image<S: Source>(
    reader: &Reader<S>,
) -> Result<(Vec<(Vec<u8>, Vec<u8>)>, bool), ReadError> {
    let mut files = Vec::new();
    let mut pending = vec![(Vec::new(), reader.root())];
    let (mut inodes, mut left) = (0, CONTENT_MAX);
    while let Some((path, nid)) = pending.pop() {
        inodes += 1;
        if inodes > INODES_MAX {
            return Ok((files, false));
        }
        let inode = reader.inode(nid)?;
        reader.xattrs(&inode)?;
        match inode.file_type {
            FileType::Directory => {
                for entry in reader.list(&inode)? {
                    if pending.len() >= INODES_MAX {
                        return Ok((files, false));
                    }
                    pending.push(([&path[..], b"/", &entry.name[..]].concat(), entry.nid));
                }
            }
            FileType::Regular => {
                let content = content(reader, &inode, &mut left)?;
                let Some(content) = content else { return Ok((files, false)) };
                files.push((path, content));
            }
            FileType::Symlink => {
                reader.read_link(&inode)?;
            }
            _ => {}
        }
    }
    Ok((files, true))
}

fn content<S: Source>(
    reader: &Reader<S>,
    inode: &InodeInfo,
    left: &mut u64,
) -> Result<Option<Vec<u8>>, ReadError> {
    if inode.size > *left {
        return Ok(None);
    }
    *left -= inode.size;
    reader.read_all(inode, CONTENT_MAX).map(Some)
}
