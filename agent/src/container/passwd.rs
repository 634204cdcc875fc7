//! `/etc/passwd` and `/etc/group`, parsed with bounds (passwd(5), group(5)).

/// Bytes of a file that are read at most: bounds what a hostile image can make us allocate.
pub const FILE_MAX: usize = 4 << 20;

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswdEntry<'a> {
    /// Login name.
    pub name: &'a [u8],
    /// User ID.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: &'a [u8],
}

/// A line of `/etc/group`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupEntry<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Group ID.
    pub gid: u32,
    members: &'a [u8],
}

impl GroupEntry<'_> {
    /// Whether the user called `name` is listed.
    pub fn has_member(&self, name: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|member| member == name)
    }
}

/// The well-formed lines of `/etc/passwd`; others are skipped.
pub fn passwd_entries(file: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry { name, uid, gid, home })
    })
}

/// The well-formed lines of `/etc/group`; others are skipped.
pub fn group_entries(file: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// Lines without surrounding blanks, comments left out.
fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_gives_its_fields() {
        let entries: Vec<_> =
            passwd_entries(b"root:x:0:0:root:/root:/bin/sh\nweb:*:33:34::/srv\n").collect();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1], PasswdEntry { name: b"web", uid: 33, gid: 34, home: b"/srv" });
    }

    #[test]
    fn broken_lines_comments_and_blanks_are_skipped() {
        let file = b"# a comment\n\n::0:0\nx:y\nbad:x:abc:0:::\nneg:x:-1:0:::\nok:x:5:6";
        let entries: Vec<_> = passwd_entries(file).collect();
        assert_eq!(entries, [PasswdEntry { name: b"ok", uid: 5, gid: 6, home: b"" }]);
    }

    #[test]
    fn members_are_matched_whole() {
        let entry = group_entries(b"adm:x:4:alice,bob").next().unwrap();
        assert!(entry.has_member(b"bob"));
        assert!(!entry.has_member(b"bo"));
        assert!(!entry.has_member(b"alice,bob"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(file in prop::collection::vec(any::<u8>(), 0..500)) {
            passwd_entries(&file).for_each(drop);
            let _ = group_entries(&file).any(|entry| entry.has_member(b"x"));
        }
    }
}
