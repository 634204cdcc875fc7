//! Image names as Docker writes them: what a user types, and the canonical form sent to the daemon.

use crate::exit::Failure;

/// A reference that cannot be taken apart, in Docker's words.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid reference format")]
pub(crate) struct InvalidReference;

impl From<InvalidReference> for Failure {
    fn from(error: InvalidReference) -> Self {
        Self::new(error.to_string())
    }
}

/// A name taken apart; the daemon checks its parts, so that here only none may be empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ImageName {
    /// Registry and path, as typed.
    pub(crate) name: String,
    /// The tag, if any.
    pub(crate) tag: Option<String>,
    /// The digest (`sha256:…`), if any.
    pub(crate) digest: Option<String>,
}

impl ImageName {
    /// Splits `name[:tag][@digest]`.
    ///
    /// # Errors
    /// [`InvalidReference`] if a part is empty or there are two tags: it would mean another image.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidReference> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let is_empty = |part: &Option<String>| part.as_deref() == Some("");
        // What is left of a second tag; a port has a path behind it.
        let has_rest = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        if name.is_empty() || is_empty(&tag) || is_empty(&digest) || has_rest {
            return Err(InvalidReference);
        }
        Ok(Self { name: name.to_owned(), tag, digest })
    }

    /// The tag or digest to ask the daemon for.
    pub(crate) fn tag_or_digest(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The name with its default tag, as Docker prints it to the user.
    pub(crate) fn familiar(&self) -> String {
        self.joined(&self.name)
    }

    /// Registry and path in full (`docker.io/library/busybox`).
    pub(crate) fn canonical_name(&self) -> String {
        match self.name.split_once('/') {
            Some((first, _)) if is_registry(first) => self.name.clone(),
            Some(_) => format!("docker.io/{}", self.name),
            None => format!("docker.io/library/{}", self.name),
        }
    }

    /// The whole reference in full.
    pub(crate) fn canonical(&self) -> String {
        self.joined(&self.canonical_name())
    }

    fn joined(&self, name: &str) -> String {
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => format!("{name}:{tag}@{digest}"),
            (None, Some(digest)) => format!("{name}@{digest}"),
            (Some(tag), None) => format!("{name}:{tag}"),
            (None, None) => format!("{name}:latest"),
        }
    }
}

/// The first path component is a registry if it looks like a host (distribution's reference rules).
fn is_registry(component: &str) -> bool {
    component == "localhost"
        || component.contains(['.', ':'])
        || component.chars().any(|letter| letter.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_in_the_library_of_the_default_registry() {
        let name = ImageName::parse("busybox").unwrap();
        assert_eq!(name.canonical(), "docker.io/library/busybox:latest");
        assert_eq!(name.familiar(), "busybox:latest");
        assert_eq!(ImageName::parse("me/app:1").unwrap().canonical(), "docker.io/me/app:1");
    }

    #[test]
    fn a_port_is_not_a_tag() {
        let name = ImageName::parse("localhost:5000/app").unwrap();
        assert_eq!((name.name.as_str(), name.tag_or_digest()), ("localhost:5000/app", "latest"));
        assert_eq!(ImageName::parse("h:5/a:b").unwrap().tag.as_deref(), Some("b"));
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let name = ImageName::parse("a:b@sha256:00").unwrap();
        assert_eq!(name.tag_or_digest(), "sha256:00");
        assert_eq!(name.familiar(), "a:b@sha256:00");
    }

    #[test]
    fn an_empty_part_or_a_second_tag_is_refused() {
        for text in ["", "a:", ":b", "a@", "@sha256:00", "h:5/a:", "a:b:c", "h:5/a:b:c"] {
            assert_eq!(ImageName::parse(text), Err(InvalidReference), "{text}");
        }
    }
}
