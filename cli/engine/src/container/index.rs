//! All containers, found by ID, name, or the start of an ID.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use husk_api::{ApiError, ErrorCode};

use super::Container;
use crate::id::ContainerId;

/// All containers of an engine.
#[derive(Debug, Default)]
pub(crate) struct ContainerIndex {
    by_id: Mutex<BTreeMap<ContainerId, Arc<Container>>>,
    /// Held while a name is checked and taken.
    pub(crate) naming: tokio::sync::Mutex<()>,
}

impl ContainerIndex {
    /// Adds a container.
    pub(crate) fn insert(&self, container: Arc<Container>) {
        self.lock().insert(container.id.clone(), container);
    }

    /// Forgets a container.
    pub(crate) fn remove(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    /// All containers.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.lock().values().cloned().collect()
    }

    /// The container with this name, without a leading slash.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Container>> {
        self.lock().values().find(|container| container.name == name).cloned()
    }

    /// Finds a container as Docker does: by ID, by name, by the start of an ID.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidArgument` if several IDs start so.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Container>, ApiError> {
        let containers = self.lock();
        let ids = containers.values().map(|container| (&container.id, container.name.as_str()));
        match resolve(ids, text) {
            Resolved::One(id) => Ok(Arc::clone(&containers[id])),
            Resolved::None => {
                Err(ApiError::new(ErrorCode::NotFound, format!("No such container: {text}")))
            }
            Resolved::Several => Err(ApiError::new(
                ErrorCode::InvalidArgument,
                format!("multiple IDs found with provided prefix: {text}"),
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Container>>> {
        self.by_id.lock().expect("nobody panics with it")
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Resolved<'a> {
    One(&'a ContainerId),
    None,
    Several,
}

fn resolve<'a>(
    containers: impl Iterator<Item = (&'a ContainerId, &'a str)> + Clone,
    text: &str,
) -> Resolved<'a> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let exact = containers
        .clone()
        .find(|(id, _)| id.as_str() == text)
        .or_else(|| containers.clone().find(|(_, other)| *other == name));
    if let Some((id, _)) = exact {
        return Resolved::One(id);
    }
    if text.is_empty() {
        return Resolved::None;
    }
    let mut starting = containers.filter(|(id, _)| id.as_str().starts_with(text));
    match (starting.next(), starting.next()) {
        (Some((id, _)), None) => Resolved::One(id),
        (None, _) => Resolved::None,
        (Some(_), Some(_)) => Resolved::Several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_names_and_prefixes_resolve_in_this_order() {
        let id = |start: &str| {
            ContainerId::try_from(format!("{start}{}", "0".repeat(64 - start.len()))).unwrap()
        };
        let (one, two, three) = (id("abc1"), id("abd2"), id("f00d"));
        let all = [(&one, "web"), (&two, "f00"), (&three, "db")];
        let found = |text: &str| resolve(all.into_iter(), text);
        assert_eq!(found(one.as_str()), Resolved::One(&one));
        assert_eq!(found("web"), Resolved::One(&one));
        assert_eq!(found("/web"), Resolved::One(&one));
        assert_eq!(found("abd"), Resolved::One(&two));
        assert_eq!(found("f00"), Resolved::One(&two), "a name goes before a prefix");
        assert_eq!(found("ab"), Resolved::Several);
        assert_eq!(found("e"), Resolved::None);
        assert_eq!(found(""), Resolved::None);
        assert_eq!(found("/"), Resolved::None);
    }
}
