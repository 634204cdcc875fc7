//! Users of an image: its passwd and group files are the image's word.

#![no_main]

use husk_agent::container::device_rule::compile;
use husk_agent::container::passwd::{group_entries, passwd_entries};
use husk_agent::container::user::resolve;
use husk_fuzz::{MEBIBYTE, bounded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (user, passwd, group) = input;
    bounded(MEBIBYTE, || {
        for entry in passwd_entries(passwd) {
            assert!(entry.name.len() <= passwd.len() && entry.home.len() <= passwd.len());
        }
        for entry in group_entries(group) {
            let _ = entry.has_member(user.as_bytes());
        }
        if let Ok(identity) = resolve(user, passwd, group) {
            assert!(identity.groups.contains(&identity.gid), "its own group is among them");
            assert!(!identity.home.is_empty());
        }
        // No rules at all are a program as well.
        assert!(compile(&[]).is_ok());
    });
});
