//! Files that the host provides in a container.

use std::fmt::Write as _;

use husk_api::models::HostConfig;
use husk_api::{ApiError, ErrorCode};

use crate::store::Definition;

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`: path and text.
pub(crate) fn provided(definition: &Definition) -> Vec<(String, String)> {
    let hostname = definition.config.hostname.clone().unwrap_or_default();
    let domain = definition.config.domainname.clone().unwrap_or_default();
    vec![
        ("/etc/hostname".to_owned(), format!("{hostname}\n")),
        ("/etc/hosts".to_owned(), hosts(&hostname, &domain, &definition.host_config)),
        ("/etc/resolv.conf".to_owned(), resolv_conf(&definition.host_config)),
    ]
}

fn hosts(hostname: &str, domain: &str, host: &HostConfig) -> String {
    let mut text = "127.0.0.1\tlocalhost\n\
                    ::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::\tip6-localnet\n\
                    ff00::\tip6-mcastprefix\n\
                    ff02::1\tip6-allnodes\n\
                    ff02::2\tip6-allrouters\n"
        .to_owned();
    for extra in host.extra_hosts.iter().flatten() {
        if let Some((name, address)) = split_extra(extra) {
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    // Without a network the name leads to the container itself.
    if domain.is_empty() {
        let _ = writeln!(text, "127.0.1.1\t{hostname}");
    } else {
        let _ = writeln!(text, "127.0.1.1\t{hostname}.{domain} {hostname}");
    }
    text
}

fn resolv_conf(host: &HostConfig) -> String {
    let mut text = String::new();
    for server in host.dns.iter().flatten() {
        let _ = writeln!(text, "nameserver {server}");
    }
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default().join(" ");
    if !list(&host.dns_search).is_empty() {
        let _ = writeln!(text, "search {}", list(&host.dns_search));
    }
    if !list(&host.dns_options).is_empty() {
        let _ = writeln!(text, "options {}", list(&host.dns_options));
    }
    text
}

/// Refuses lines that would not say what was meant.
pub(super) fn check(host: &HostConfig) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidArgument, message));
    for extra in host.extra_hosts.iter().flatten() {
        let Some((name, address)) = split_extra(extra) else {
            return invalid(format!("bad format for add-host: {extra:?}"));
        };
        if address.parse::<std::net::IpAddr>().is_err() || !is_word(name) {
            return invalid(format!("invalid IP address in add-host: {address:?}"));
        }
    }
    for server in host.dns.iter().flatten() {
        if server.parse::<std::net::IpAddr>().is_err() {
            return invalid(format!("invalid DNS server address: {server:?}"));
        }
    }
    for word in host.dns_search.iter().chain(host.dns_options.iter()).flatten() {
        if !is_word(word) {
            return invalid(format!("invalid DNS search domain or option: {word:?}"));
        }
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn split_extra(extra: &str) -> Option<(&str, &str)> {
    let (name, address) = extra.split_once(['=', ':'])?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    Some((name, bare.unwrap_or(address)))
}
