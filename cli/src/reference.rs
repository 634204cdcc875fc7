//! Image names as Docker writes them: what a user types, and the canonical form sent to the daemon.

/// A name taken apart; the daemon checks it, so this only splits.
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
    pub(crate) fn split(text: &str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        Self { name: name.to_owned(), tag, digest }
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
        let name = ImageName::split("busybox");
        assert_eq!(name.canonical(), "docker.io/library/busybox:latest");
        assert_eq!(name.familiar(), "busybox:latest");
        assert_eq!(ImageName::split("me/app:1").canonical(), "docker.io/me/app:1");
    }

    #[test]
    fn a_port_is_not_a_tag() {
        let name = ImageName::split("localhost:5000/app");
        assert_eq!((name.name.as_str(), name.tag_or_digest()), ("localhost:5000/app", "latest"));
        assert_eq!(ImageName::split("h:5/a:b").tag.as_deref(), Some("b"));
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let name = ImageName::split("a:b@sha256:00");
        assert_eq!(name.tag_or_digest(), "sha256:00");
        assert_eq!(name.familiar(), "a:b@sha256:00");
    }
}
