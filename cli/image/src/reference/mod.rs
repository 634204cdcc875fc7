//! Image references by Docker's rules: the grammar of distribution/reference, with the default
//! registry, `library/` and `latest` filled in. Pure; the text is hostile.

mod grammar;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// The registry of a name that names none.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const OFFICIAL_PREFIX: &str = "library/";
/// Characters of a repository's path, without the registry.
const PATH_CHARS_MAX: usize = 255;
/// Characters that are looked at in all: registry, path, tag and digest at their longest.
const REFERENCE_CHARS_MAX: usize = 1024;

/// A normalised reference: registry and repository, and a tag or a digest or both.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference, in Docker's words.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// Against the grammar.
    #[error("invalid reference format")]
    Format,
    /// Upper case in the repository.
    #[error("invalid reference format: repository name ({name}) must be lowercase")]
    Uppercase {
        /// The repository.
        name: String,
    },
    /// Over 255 characters.
    #[error("invalid reference format: repository name must not be more than 255 characters")]
    TooLong,
    /// Could be taken for an image ID.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId {
        /// The text.
        name: String,
    },
    /// The part after `@`.
    #[error("invalid reference format: {0}")]
    Digest(DigestError),
}

impl Reference {
    /// The registry: `docker.io`, or `host[:port]`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry: `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if the text had neither tag nor digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which decides if there is a tag too.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as people write it: without `docker.io/` and `library/`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official.to_owned(),
            // Its first part would be read as a registry.
            _ if split_registry(&self.repository).0 != DEFAULT_REGISTRY => self.name(),
            _ => self.repository.clone(),
        }
    }

    /// The reference as people write it, with tag and digest.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same repository by `digest` alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

/// The full form: `docker.io/library/busybox:latest`. Parses to the same reference.
impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > REFERENCE_CHARS_MAX {
            return Err(ReferenceError::Format);
        }
        if grammar::is_id(text) {
            return Err(ReferenceError::LooksLikeId { name: text.to_owned() });
        }
        let (registry, remainder) = split_registry(text);
        let (named, digest) = match remainder.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let (repository, tag) = match named.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (named, None),
        };
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase { name: repository.to_owned() });
        }
        let valid = grammar::is_registry(&registry)
            && grammar::is_repository(repository)
            && tag.is_none_or(grammar::is_tag)
            && digest.is_none_or(grammar::is_digest);
        if !valid {
            return Err(ReferenceError::Format);
        }
        if repository.len() > PATH_CHARS_MAX {
            return Err(ReferenceError::TooLong);
        }
        let digest = digest.map(str::parse).transpose().map_err(ReferenceError::Digest)?;
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Self {
            registry,
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// Splits off the registry: what stands before the first `/`, if it has a dot, a colon or upper
/// case, or is `localhost`.
fn split_registry(text: &str) -> (String, String) {
    let (registry, remainder) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    // Only what names the repository decides: a tag or digest has no slash.
    if registry == DEFAULT_REGISTRY && !remainder.contains('/') {
        return (registry.to_owned(), format!("{OFFICIAL_PREFIX}{remainder}"));
    }
    (registry.to_owned(), remainder.to_owned())
}
