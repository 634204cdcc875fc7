//! Identifiers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A container's ID: 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ContainerId(String);

/// What a container's ID is not.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a container ID: 64 lower-case hexadecimal digits")]
pub(crate) struct BadContainerId(String);

impl ContainerId {
    /// Digits of the short form, as listings and host names have it.
    pub(crate) const SHORT: usize = 12;

    /// Makes one up. Like Docker, never one whose short form is all decimal digits: it would pass
    /// for a number as a host name.
    pub(crate) fn random() -> Self {
        loop {
            let bytes: [u8; 32] = rand::random();
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            if !text[..Self::SHORT].bytes().all(|byte| byte.is_ascii_digit()) {
                return Self(text);
            }
        }
    }

    /// All 64 digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first [`Self::SHORT`] digits.
    pub(crate) fn short(&self) -> &str {
        &self.0[..Self::SHORT]
    }
}

impl TryFrom<String> for ContainerId {
    type Error = BadContainerId;

    fn try_from(text: String) -> Result<Self, BadContainerId> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_hex) {
            Ok(Self(text))
        } else {
            Err(BadContainerId(text))
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_ids_are_valid_and_differ() {
        let (one, other) = (ContainerId::random(), ContainerId::random());
        assert_ne!(one, other);
        assert!(ContainerId::try_from(one.to_string()).is_ok());
        assert_eq!(one.short().len(), 12);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "abc", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65)] {
            assert!(ContainerId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
