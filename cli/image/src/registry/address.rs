//! Which registries may be spoken to without TLS verification.

use std::net::IpAddr;

/// An entry of `insecure-registries`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum InsecureRegistry {
    /// `address/prefix`.
    Network(IpAddr, u8),
    /// `host[:port]`, lower case.
    Authority(String),
}

impl InsecureRegistry {
    /// Parses an entry; `None` if it is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some((address, prefix)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= bits)?;
            return Some(Self::Network(address, prefix));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        (!text.is_empty() && text.bytes().all(is_plain))
            .then(|| Self::Authority(text.to_ascii_lowercase()))
    }

    /// Whether it covers a registry, given as `host[:port]`. Names are not resolved.
    pub(super) fn covers(&self, authority: &str) -> bool {
        match self {
            Self::Authority(own) => own.eq_ignore_ascii_case(authority),
            Self::Network(network, prefix) => host_address(authority)
                .is_some_and(|address| bits_of(address, *prefix) == bits_of(*network, *prefix)),
        }
    }
}

/// Whether the registry is on this machine: always insecure, as in Docker.
pub(super) fn is_loopback(authority: &str) -> bool {
    host(authority) == "localhost"
        || host_address(authority).is_some_and(|address| address.is_loopback())
}

fn host(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.split(':').next().unwrap_or(authority)
}

fn host_address(authority: &str) -> Option<IpAddr> {
    host(authority).parse().ok()
}

/// The first `prefix` bits, and how long the address is in all.
fn bits_of(address: IpAddr, prefix: u8) -> (bool, u128) {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let dropped = width - u32::from(prefix);
    (width == 32, bits.checked_shr(dropped).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(entry: &str, authority: &str) -> bool {
        InsecureRegistry::parse(entry).unwrap().covers(authority)
    }

    #[test]
    fn networks_cover_their_addresses_only() {
        assert!(covers("10.0.0.0/8", "10.9.8.7:5000"));
        assert!(!covers("10.0.0.0/8", "11.0.0.1"));
        assert!(covers("0.0.0.0/0", "1.2.3.4"));
        assert!(!covers("0.0.0.0/0", "[::1]:5000"));
        assert!(covers("fd00::/8", "[fd12::1]:5000"));
        assert!(covers("10.0.0.1/32", "10.0.0.1"));
        assert!(!covers("10.0.0.0/8", "example.com"));
    }

    #[test]
    fn names_cover_themselves_with_their_port() {
        assert!(covers("registry.lan:5000", "Registry.LAN:5000"));
        assert!(!covers("registry.lan:5000", "registry.lan"));
    }

    #[test]
    fn malformed_entries_are_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "http://a", "a b", "::/129"] {
            assert_eq!(InsecureRegistry::parse(text), None, "{text}");
        }
    }

    #[test]
    fn loopback_is_known_by_address_and_name() {
        assert!(
            is_loopback("127.1.2.3:5000") && is_loopback("localhost") && is_loopback("[::1]:1")
        );
        assert!(!is_loopback("localhost.example.com") && !is_loopback("10.0.0.1"));
    }
}
