//! Who runs the process: `--user` resolved in the image's own files, by Docker's rules.

use super::passwd::{group_entries, passwd_entries};

/// The largest user or group ID that Docker accepts.
const ID_MAX: u32 = 0x7fff_ffff;

/// Identity of a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory, the default of `HOME`.
    pub home: Vec<u8>,
}

/// Why a user could not be resolved. The texts are Docker's.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum UserError {
    /// The name is not in `/etc/passwd`.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// The name is not in `/etc/group`.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A number is too large.
    #[error("uids and gids must be in range 0-{ID_MAX}")]
    OutOfRange,
}

/// Resolves `user` (`name` or `uid`, each with `:group` or `:gid`; empty means root) in the
/// contents of the image's `/etc/passwd` and `/etc/group`, empty where there is none.
///
/// A number that is in the file counts as that entry; one that is not has group 0. Supplementary
/// groups are the process's own group, so that it cannot be dropped to get past a mode that denies
/// it something, and those that list the user, unless a group is named.
///
/// # Errors
/// [`UserError`]
pub fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, UserError> {
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    let number = id(user_part)?;
    let entry = passwd_entries(passwd).find(|entry| match number {
        Some(uid) => entry.uid == uid,
        None => entry.name == user_part.as_bytes(),
    });
    let mut identity = match (&entry, number) {
        (Some(entry), _) => Identity {
            uid: entry.uid,
            gid: entry.gid,
            groups: Vec::new(),
            home: entry.home.to_vec(),
        },
        (None, Some(uid)) => Identity { uid, gid: 0, groups: Vec::new(), home: Vec::new() },
        (None, None) => return Err(UserError::UnknownUser(user_part.to_owned())),
    };
    if identity.home.is_empty() {
        identity.home = b"/".to_vec();
    }
    if !group_part.is_empty() {
        identity.gid = resolve_group(group_part, group)?;
    }
    identity.groups.push(identity.gid);
    if let (true, Some(entry)) = (group_part.is_empty(), entry) {
        let listed = group_entries(group)
            .filter(|candidate| candidate.has_member(entry.name) && candidate.gid != entry.gid);
        identity.groups.extend(listed.map(|candidate| candidate.gid));
    }
    Ok(identity)
}

fn resolve_group(name: &str, group: &[u8]) -> Result<u32, UserError> {
    if let Some(gid) = id(name)? {
        return Ok(gid);
    }
    group_entries(group)
        .find(|entry| entry.name == name.as_bytes())
        .map(|entry| entry.gid)
        .ok_or_else(|| UserError::UnknownGroup(name.to_owned()))
}

/// The number that `text` is; `None` if it is a name.
fn id(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    text.parse().ok().filter(|id| *id <= ID_MAX).map(Some).ok_or(UserError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        web:x:33:33:web:/var/www:/bin/false\n\
        nohome:x:40:40:::\n\
        1000:x:7:8:a name of digits:/seven:\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:root,web\nweb:x:33:\ncache:x:50:web\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity { uid, gid, groups: groups.to_vec(), home: home.into() }
    }

    #[test]
    fn empty_is_root_with_its_groups_and_home() {
        assert_eq!(resolve("", PASSWD, GROUP), Ok(identity(0, 0, &[0, 4], "/root")));
    }

    #[test]
    fn a_name_has_its_group_home_and_supplementary_groups() {
        assert_eq!(resolve("web", PASSWD, GROUP), Ok(identity(33, 33, &[33, 4, 50], "/var/www")));
    }

    #[test]
    fn a_number_in_the_file_counts_as_the_name() {
        assert_eq!(resolve("33", PASSWD, GROUP), resolve("web", PASSWD, GROUP));
    }

    #[test]
    fn a_number_outside_the_file_has_group_zero_and_the_root_as_home() {
        assert_eq!(resolve("1234", PASSWD, GROUP), Ok(identity(1234, 0, &[0], "/")));
    }

    #[test]
    fn digits_are_never_a_name() {
        assert_eq!(resolve("1000", PASSWD, GROUP), Ok(identity(1000, 0, &[0], "/")));
    }

    #[test]
    fn a_named_group_replaces_all_groups() {
        assert_eq!(resolve("web:cache", PASSWD, GROUP), Ok(identity(33, 50, &[50], "/var/www")));
        assert_eq!(resolve("web:77", PASSWD, GROUP), Ok(identity(33, 77, &[77], "/var/www")));
        assert_eq!(resolve(":cache", PASSWD, GROUP), Ok(identity(0, 50, &[50], "/root")));
    }

    #[test]
    fn without_files_numbers_and_root_work() {
        assert_eq!(resolve("", b"", b""), Ok(identity(0, 0, &[0], "/")));
        assert_eq!(resolve("5:6", b"", b""), Ok(identity(5, 6, &[6], "/")));
    }

    #[test]
    fn a_home_that_is_empty_is_the_root() {
        assert_eq!(resolve("nohome", PASSWD, GROUP), Ok(identity(40, 40, &[40], "/")));
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        assert_eq!(
            resolve("ghost", PASSWD, GROUP).unwrap_err().to_string(),
            "unable to find user ghost: no matching entries in passwd file"
        );
        assert_eq!(
            resolve("web:ghost", PASSWD, GROUP).unwrap_err().to_string(),
            "unable to find group ghost: no matching entries in group file"
        );
    }

    #[test]
    fn numbers_over_the_limit_are_refused() {
        assert_eq!(resolve("2147483648", PASSWD, GROUP), Err(UserError::OutOfRange));
        assert_eq!(resolve("0:99999999999", PASSWD, GROUP), Err(UserError::OutOfRange));
        assert_eq!(resolve("2147483647", b"", b"").unwrap().uid, ID_MAX);
    }
}
