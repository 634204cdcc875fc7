//! Filters of a listing, as the Engine API has them.

use std::collections::HashMap;
use std::sync::Arc;

use husk_api::{ApiError, ErrorCode};

use super::transition::Phase;
use super::{Container, ContainerIndex};

/// Which containers a client wants to see.
#[derive(Debug)]
pub(crate) struct Filter {
    ids: Vec<String>,
    names: Vec<String>,
    labels: Vec<String>,
    statuses: Vec<String>,
    exit_codes: Vec<i64>,
    ancestors: Vec<String>,
    /// Created before this, exclusive.
    before: Option<i64>,
    /// Created after this, exclusive.
    since: Option<i64>,
    all: bool,
}

/// Docker's statuses; those that Husk has no such state for match nothing.
const STATUSES: [&str; 7] =
    ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

impl Filter {
    /// Reads filters; `ancestor` resolves an image to its ID, if it is there.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown filter or a malformed value, `NotFound` for a container
    /// that `before` or `since` names.
    pub(crate) fn parse(
        all: bool,
        filters: &HashMap<String, Vec<String>>,
        containers: &ContainerIndex,
        ancestor: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ApiError> {
        let invalid = |message: String| ApiError::new(ErrorCode::InvalidArgument, message);
        let mut filter = Self {
            ids: Vec::new(),
            names: Vec::new(),
            labels: Vec::new(),
            statuses: Vec::new(),
            exit_codes: Vec::new(),
            ancestors: Vec::new(),
            before: None,
            since: None,
            all,
        };
        for (key, values) in filters {
            let values = values.clone();
            match key.as_str() {
                "id" => filter.ids = values,
                "name" => filter.names = values,
                "label" => filter.labels = values,
                "status" => {
                    if let Some(bad) = values.iter().find(|v| !STATUSES.contains(&v.as_str())) {
                        return Err(invalid(format!("invalid filter 'status={bad}'")));
                    }
                    filter.statuses = values;
                    filter.all = true;
                }
                "exited" => {
                    for value in values {
                        let code = value.parse();
                        let code =
                            code.map_err(|_| invalid(format!("invalid filter 'exited={value}'")));
                        filter.exit_codes.push(code?);
                    }
                    filter.all = true;
                }
                "ancestor" => {
                    filter.ancestors = values.iter().filter_map(|value| ancestor(value)).collect();
                    // An image that is not there is nobody's ancestor.
                    if filter.ancestors.is_empty() && !values.is_empty() {
                        filter.ancestors.push(String::new());
                    }
                }
                "before" | "since" => {
                    for value in &values {
                        let created = Some(containers.find(value)?.created_unix_ns);
                        if key == "before" {
                            filter.before = created;
                        } else {
                            filter.since = created;
                        }
                    }
                }
                other => return Err(invalid(format!("invalid filter '{other}'"))),
            }
        }
        Ok(filter)
    }

    /// Whether the container is wanted. Values of one filter are alternatives, except of labels.
    pub(crate) fn accepts(&self, container: &Arc<Container>) -> bool {
        let status = container.status();
        let any = |values: &[String], test: &dyn Fn(&String) -> bool| {
            values.is_empty() || values.iter().any(test)
        };
        let id = container.id.as_str();
        let labels = container.definition.config.labels.as_ref();
        (self.all || status.phase == Phase::Running)
            && any(&self.ids, &|value| id.starts_with(value.as_str()))
            && any(&self.names, &|value| name_matches(&container.name, value))
            && any(&self.statuses, &|value| status.phase.name() == value)
            && any(&self.ancestors, &|value| &container.definition.image_id == value)
            && self.labels.iter().all(|value| label_matches(labels, value))
            && (self.exit_codes.is_empty()
                || (status.phase == Phase::Exited && self.exit_codes.contains(&status.exit_code)))
            && self.before.is_none_or(|before| container.created_unix_ns < before)
            && self.since.is_none_or(|since| container.created_unix_ns > since)
    }
}

/// Docker takes a pattern that it finds anywhere in the name; anchors are what people use of it.
fn name_matches(name: &str, pattern: &str) -> bool {
    let (pattern, at_start) = match pattern.strip_prefix('^') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let (pattern, at_end) = match pattern.strip_suffix('$') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let slashed = pattern.starts_with('/');
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    match (at_start || slashed, at_end) {
        (true, true) => name == pattern,
        (true, false) => name.starts_with(pattern),
        (false, true) => name.ends_with(pattern),
        (false, false) => name.contains(pattern),
    }
}

fn label_matches(labels: Option<&HashMap<String, String>>, wanted: &str) -> bool {
    let Some(labels) = labels else { return false };
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use husk_api::models::{ContainerConfig, HostConfig};

    use super::*;
    use crate::id::ContainerId;
    use crate::paths::Paths;
    use crate::store::{Definition, Record, Status};

    fn container(name: &str, created_unix_ns: i64, phase: Phase, exit_code: i64) -> Arc<Container> {
        let paths = Paths::new(&crate::engine::EngineConfig {
            data_root: "/nowhere".into(),
            exec_root: "/nowhere".into(),
            libexec: "/nowhere".into(),
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            accelerator: crate::sandbox::AcceleratorChoice::Auto,
        });
        let labels = HashMap::from([("tier".to_owned(), name.to_owned())]);
        let record = Record {
            id: ContainerId::random(),
            name: name.to_owned(),
            created_unix_ns,
            definition: Definition {
                image: name.to_owned(),
                image_id: format!("sha256:{name}"),
                platform: "linux".to_owned(),
                config: ContainerConfig { labels: Some(labels), ..ContainerConfig::default() },
                host_config: HostConfig::default(),
            },
            status: Status { phase, exit_code, ..Status::created() },
        };
        Container::new(record, &paths).0
    }

    fn index() -> ContainerIndex {
        let index = ContainerIndex::default();
        index.insert(container("web", 1, Phase::Running, 0));
        index.insert(container("web-old", 2, Phase::Exited, 3));
        index.insert(container("db", 3, Phase::Created, 0));
        index
    }

    fn named(all: bool, filters: &[(&str, &str)]) -> Result<Vec<String>, ApiError> {
        let index = index();
        let filters = filters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()]))
            .collect();
        let image = |name: &str| (name != "gone").then(|| format!("sha256:{name}"));
        let filter = Filter::parse(all, &filters, &index, image)?;
        let mut names: Vec<_> = index.all().into_iter().filter(|c| filter.accepts(c)).collect();
        names.sort_by_key(|container| container.created_unix_ns);
        Ok(names.into_iter().map(|container| container.name.clone()).collect())
    }

    #[test]
    fn each_filter_takes_what_it_should() {
        for (all, filters, expected) in [
            (false, &[][..], &["web"][..]),
            (true, &[], &["web", "web-old", "db"]),
            (true, &[("name", "web")], &["web", "web-old"]),
            (true, &[("name", "^/web$")], &["web"]),
            (true, &[("name", "^we")], &["web", "web-old"]),
            (true, &[("label", "tier")], &["web", "web-old", "db"]),
            (true, &[("label", "tier=db")], &["db"]),
            (true, &[("label", "tier=x")], &[]),
            (false, &[("status", "exited")], &["web-old"]),
            (false, &[("status", "paused")], &[]),
            (false, &[("exited", "3")], &["web-old"]),
            (false, &[("exited", "0")], &[]),
            (true, &[("ancestor", "db")], &["db"]),
            (true, &[("ancestor", "gone")], &[]),
            (true, &[("before", "db")], &["web", "web-old"]),
            (true, &[("since", "web")], &["web-old", "db"]),
            (true, &[("name", "web"), ("status", "running")], &["web"]),
            (true, &[("id", "zz")], &[]),
        ] {
            assert_eq!(named(all, filters).unwrap(), expected, "{filters:?}");
        }
    }

    #[test]
    fn unknown_filters_and_values_are_refused() {
        for (filter, message) in [
            (("colour", "red"), "invalid filter 'colour'"),
            (("status", "asleep"), "invalid filter 'status=asleep'"),
            (("exited", "x"), "invalid filter 'exited=x'"),
            (("before", "nobody"), "No such container: nobody"),
        ] {
            assert_eq!(named(true, &[filter]).unwrap_err().message, message);
        }
    }
}
