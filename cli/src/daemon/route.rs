//! What a request is about: a pure function from method and path to [`Route`].
//!
//! Image names contain slashes (`/images/host:5000/a/b/json`), so a table of patterns with one
//! wildcard a segment does not do.

use hyper::Method;
use percent_encoding::percent_decode_str;

/// The endpoint that a request names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// `HEAD|GET /_ping`.
    Ping,
    /// `GET /version`.
    Version,
    /// `GET /info`.
    Info,
    /// `GET /images/json`.
    ImageList,
    /// `POST /images/create`.
    ImageCreate,
    /// `GET /images/{name}/json`.
    ImageInspect(String),
    /// `GET /containers/json`.
    ContainerList,
    /// `POST /containers/create`.
    ContainerCreate,
    /// Anything about one container.
    Container(String, ContainerRoute),
    /// An endpoint of the Engine API that husk does not have yet.
    NotYet(&'static str),
    /// Endpoints of swarm mode.
    Swarm,
    /// No such endpoint.
    Unknown,
}

/// Endpoints below `/containers/{id}`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ContainerRoute {
    /// `GET …/json`.
    Inspect,
    /// `POST …/start`.
    Start,
    /// `POST …/wait`.
    Wait,
    /// `POST …/attach`.
    Attach,
    /// `GET …/logs`.
    Logs,
    /// `POST …/kill`.
    Kill,
    /// `POST …/resize`.
    Resize,
    /// `DELETE /containers/{id}`.
    Remove,
}

/// Finds the endpoint; `path` is without version prefix and query.
pub(super) fn find(method: &Method, path: &str) -> Route {
    let Ok(path) = percent_decode_str(path).decode_utf8() else { return Route::Unknown };
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), segments.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => Route::Ping,
        ("GET", ["version"]) => Route::Version,
        ("GET", ["info"]) => Route::Info,
        ("GET", ["images", "json"]) => Route::ImageList,
        ("POST", ["images", "create"]) => Route::ImageCreate,
        ("GET", ["containers", "json"]) => Route::ContainerList,
        ("POST", ["containers", "create"]) => Route::ContainerCreate,
        (method, ["containers", rest @ ..]) => container(method, rest),
        (method, ["images", rest @ ..]) => image(method, rest),
        (method, [family, rest @ ..]) => elsewhere(method, family, rest),
        (_, []) => Route::Unknown,
    }
}

fn container(method: &str, rest: &[&str]) -> Route {
    let this = |id: &str, route| match id {
        "" => Route::Unknown,
        id => Route::Container(id.to_owned(), route),
    };
    match (method, rest) {
        ("GET", [id, "json"]) => this(id, ContainerRoute::Inspect),
        ("POST", [id, "start"]) => this(id, ContainerRoute::Start),
        ("POST", [id, "wait"]) => this(id, ContainerRoute::Wait),
        ("POST", [id, "attach"]) => this(id, ContainerRoute::Attach),
        ("GET", [id, "logs"]) => this(id, ContainerRoute::Logs),
        ("POST", [id, "kill"]) => this(id, ContainerRoute::Kill),
        ("POST", [id, "resize"]) => this(id, ContainerRoute::Resize),
        ("POST", ["prune"]) => Route::NotYet("pruning containers"),
        ("DELETE", [id]) => this(id, ContainerRoute::Remove),
        ("POST", [_, "stop"]) => Route::NotYet("stopping containers"),
        ("POST", [_, "restart"]) => Route::NotYet("restarting containers"),
        ("POST", [_, "rename"]) => Route::NotYet("renaming containers"),
        ("POST", [_, "update"]) => Route::NotYet("updating containers"),
        ("POST", [_, "pause" | "unpause"]) => Route::NotYet("pausing containers"),
        ("POST", [_, "exec"]) => Route::NotYet("exec"),
        ("GET", [_, "top"]) => Route::NotYet("top"),
        ("GET", [_, "stats"]) => Route::NotYet("stats"),
        ("GET", [_, "changes"]) => Route::NotYet("diff"),
        ("GET", [_, "export"]) => Route::NotYet("exporting containers"),
        ("GET", [_, "attach", "ws"]) => Route::NotYet("attaching over a websocket"),
        ("GET" | "HEAD" | "PUT", [_, "archive"]) => Route::NotYet("copying files"),
        (_, [_, "checkpoints", ..]) => Route::NotYet("checkpoints"),
        _ => Route::Unknown,
    }
}

fn image(method: &str, rest: &[&str]) -> Route {
    match (method, rest) {
        ("GET", ["search"]) => Route::NotYet("searching images"),
        ("GET", ["get"]) => Route::NotYet("saving images"),
        ("POST", ["load"]) => Route::NotYet("loading images"),
        ("POST", ["prune"]) => Route::NotYet("pruning images"),
        ("GET", [name @ .., "json"]) if !name.is_empty() => Route::ImageInspect(name.join("/")),
        ("GET", [_, .., "history"]) => Route::NotYet("image history"),
        ("GET", [_, .., "get"]) => Route::NotYet("saving images"),
        ("POST", [_, .., "push"]) => Route::NotYet("pushing images"),
        ("POST", [_, .., "tag"]) => Route::NotYet("tagging images"),
        ("DELETE", [_, ..]) => Route::NotYet("removing images"),
        _ => Route::Unknown,
    }
}

/// Families of which husk has nothing yet.
fn elsewhere(method: &str, family: &str, rest: &[&str]) -> Route {
    match (method, family, rest) {
        (_, "swarm" | "services" | "nodes" | "tasks" | "secrets" | "configs", _) => Route::Swarm,
        (_, "networks", _) => Route::NotYet("networks"),
        (_, "volumes", _) => Route::NotYet("volumes"),
        (_, "plugins", _) => Route::NotYet("plugins"),
        (_, "exec", [_, ..]) => Route::NotYet("exec"),
        ("POST", "build", _) => Route::NotYet("building images"),
        ("POST", "commit", []) => Route::NotYet("commit"),
        ("POST", "auth", []) => Route::NotYet("logging in to registries"),
        ("GET", "events", []) => Route::NotYet("events"),
        ("GET", "system", ["df"]) => Route::NotYet("disk usage"),
        ("POST", "session" | "grpc", []) => Route::NotYet("BuildKit"),
        ("GET", "distribution", [_, .., "json"]) => Route::NotYet("distribution inspect"),
        _ => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(path: &str) -> Route {
        find(&Method::GET, path)
    }

    #[test]
    fn image_names_keep_their_slashes_and_port() {
        assert_eq!(
            get("/images/127.0.0.1:5000/a/b/json"),
            Route::ImageInspect("127.0.0.1:5000/a/b".into())
        );
        assert_eq!(
            get("/images/docker.io%2Flibrary%2Fbusybox/json"),
            Route::ImageInspect("docker.io/library/busybox".into())
        );
        assert_eq!(get("/images/json"), Route::ImageList);
    }

    #[test]
    fn containers_are_found_by_method_and_verb() {
        let id = || "ab".to_owned();
        assert_eq!(
            find(&Method::POST, "/containers/ab/wait"),
            Route::Container(id(), ContainerRoute::Wait)
        );
        assert_eq!(
            find(&Method::DELETE, "/containers/ab"),
            Route::Container(id(), ContainerRoute::Remove)
        );
        assert_eq!(get("/containers/ab/wait"), Route::Unknown);
        assert_eq!(get("/containers//json"), Route::Unknown);
    }

    #[test]
    fn what_docker_has_and_husk_has_not_is_told_apart_from_nonsense() {
        assert_eq!(
            find(&Method::POST, "/containers/ab/stop"),
            Route::NotYet("stopping containers")
        );
        assert_eq!(get("/networks"), Route::NotYet("networks"));
        assert_eq!(get("/services"), Route::Swarm);
        assert_eq!(get("/nonsense"), Route::Unknown);
        assert_eq!(get("/"), Route::Unknown);
        assert_eq!(get("/images/%ff/json"), Route::Unknown);
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in ".{0,100}") {
            let _ = find(&Method::GET, &path);
            let _ = find(&Method::POST, &path);
        }
    }
}
