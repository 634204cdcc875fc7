//! Paths of tar entries, cleaned and told apart.

use super::error::EntryError;
use super::limits::{NAME_LEN_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX};

/// Marks a name as hidden (OCI image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Marks names that are AUFS's own business.
const AUFS_METADATA: &[u8] = b".wh..wh.";
/// Marks its directory as opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's path asks for. Parents are joined by `/`, without one at either end.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// The root itself.
    Root,
    /// A file.
    File { parent: Vec<u8>, name: Vec<u8> },
    /// That `name` of lower layers is hidden.
    Whiteout { parent: Vec<u8>, name: Vec<u8> },
    /// That everything lower layers have in `directory` is hidden.
    Opaque { directory: Vec<u8> },
    /// Nothing: bookkeeping of AUFS.
    Ignored,
}

/// Cleans a path: relative to the root, without empty components and dots, and `..` taken away
/// with what stands before it, so that it cannot lead outside.
pub(super) fn clean(path: &[u8]) -> Result<Vec<&[u8]>, EntryError> {
    if path.len() > PATH_LEN_MAX {
        return Err(EntryError::PathTooLong);
    }
    if path.contains(&0) {
        return Err(EntryError::NulByte);
    }
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            _ if component.len() > NAME_LEN_MAX => return Err(EntryError::NameTooLong),
            _ => components.push(component),
        }
    }
    if components.len() > PATH_DEPTH_MAX {
        return Err(EntryError::PathTooDeep);
    }
    Ok(components)
}

/// Finds out what an entry with this path asks for.
pub(super) fn target(path: &[u8]) -> Result<Target, EntryError> {
    let components = clean(path)?;
    let Some((name, parents)) = components.split_last() else { return Ok(Target::Root) };
    let parent = parents.join(&b'/');
    if parents.iter().any(|part| part.starts_with(AUFS_METADATA)) {
        return Ok(Target::Ignored);
    }
    if parents.iter().any(|part| part.starts_with(WHITEOUT)) {
        return Err(EntryError::Whiteout);
    }
    if *name == OPAQUE {
        return Ok(Target::Opaque { directory: parent });
    }
    if name.starts_with(AUFS_METADATA) {
        return Ok(Target::Ignored);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Target::File { parent, name: name.to_vec() }),
        Some(b"" | b"." | b"..") => Err(EntryError::Whiteout),
        Some(hidden) => Ok(Target::Whiteout { parent, name: hidden.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(path: &str) -> String {
        String::from_utf8(clean(path.as_bytes()).unwrap().join(&b'/')).unwrap()
    }

    #[test]
    fn paths_cannot_leave_the_root() {
        for (path, expected) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("a/b/", "a/b"),
            ("/etc//passwd", "etc/passwd"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("a/./b/../c", "a/c"),
            ("...", "..."),
        ] {
            assert_eq!(cleaned(path), expected, "{path}");
        }
    }

    #[test]
    fn lengths_end_at_the_limits() {
        assert!(clean(&b"a/".repeat(1024)).is_ok());
        assert!(matches!(clean(&b"a/".repeat(1025)), Err(EntryError::PathTooDeep)));
        assert!(clean(&[b'a'; 255]).is_ok());
        assert!(matches!(clean(&[b'a'; 256]), Err(EntryError::NameTooLong)));
        assert!(matches!(clean(&[b'/'; 4097]), Err(EntryError::PathTooLong)));
    }

    #[test]
    fn whiteouts_are_told_apart() {
        let file =
            |parent: &str, name: &str| (parent.as_bytes().to_vec(), name.as_bytes().to_vec());
        let (parent, name) = file("a", "b");
        assert_eq!(target(b"a/.wh.b").unwrap(), Target::Whiteout { parent, name });
        let (parent, name) = file("a", "b");
        assert_eq!(target(b"./a/b").unwrap(), Target::File { parent, name });
        assert_eq!(target(b"a/.wh..wh..opq").unwrap(), Target::Opaque { directory: b"a".to_vec() });
        for ignored in ["a/.wh..wh.plnk", ".wh..wh.plnk/12.34", ".wh..wh.aufs"] {
            assert_eq!(target(ignored.as_bytes()).unwrap(), Target::Ignored);
        }
        for bad in ["a/.wh.", "a/.wh..", "a/.wh...", ".wh.a/b"] {
            assert!(matches!(target(bad.as_bytes()), Err(EntryError::Whiteout)), "{bad}");
        }
    }
}
