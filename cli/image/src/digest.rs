//! Content digests: `sha256:` and 64 lower-case hexadecimal digits (OCI image-spec, descriptor.md).

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of some bytes; the only algorithm Husk stores content under.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:hex`.
    #[error("invalid checksum digest format")]
    Format,
    /// An algorithm other than sha256.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// Not 64 digits.
    #[error("invalid checksum digest length")]
    Length,
}

impl Digest {
    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first twelve digits, as Docker abbreviates.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl From<Sha256> for Digest {
    fn from(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, digits) = text.split_once(':').ok_or(DigestError::Format)?;
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm);
        }
        if digits.len() != 64 {
            return Err(DigestError::Length);
        }
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(DigestError::Format);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| DigestError::Format)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_survives_a_round_trip() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn malformed_text_is_refused() {
        let refused = |text: &str| text.parse::<Digest>().unwrap_err();
        assert_eq!(refused("e3b0c442"), DigestError::Format);
        assert_eq!(refused(&EMPTY.to_uppercase().replace("SHA", "sha")), DigestError::Format);
        assert_eq!(refused(&EMPTY.replace("e3", "g3")), DigestError::Format);
        assert_eq!(refused(&EMPTY[..70]), DigestError::Length);
        assert_eq!(refused("sha512:00"), DigestError::Algorithm);
    }
}
