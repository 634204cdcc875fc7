//! Who may pull from where: tokens, passwords, redirects, mirrors, registries that are not there.

use husk_image::{ErrorKind, Image, ImageError, Reference, Settings, Store};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::fixture::{Fixture, Layer, Packing, Served};
use crate::server::{Access, Answer, Registry, USER_AUTHORIZATION};

const USER: Option<(&str, &str)> = Some(("user", "secret"));

fn layers() -> Vec<Layer> {
    vec![Layer::new("a", b"a", Packing::Gzip), Layer::new("b", b"b", Packing::Zstd)]
}

async fn guarded(access: Access) -> Fixture {
    let fixture = Fixture::start().await;
    Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    fixture.registry.set_access(access);
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_got_once_a_pull() {
    let fixture = guarded(Access::Token).await;
    fixture.pull("app:1").await.unwrap();
    assert_eq!(fixture.registry.seen("/token").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_to_the_token_service_only() {
    let fixture = guarded(Access::TokenForUser).await;
    fixture.pull_with("app:1", None, USER).await.unwrap();
    for seen in fixture.registry.seen("/v2/") {
        assert_ne!(seen.authorization.as_deref(), Some(USER_AUTHORIZATION));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_to_a_registry_that_asks_for_it() {
    let fixture = guarded(Access::Basic).await;
    fixture.pull_with("app:1", None, USER).await.unwrap();
    assert_eq!(fixture.registry.seen("/v2/")[0].authorization, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_pull_is_told_so() {
    for access in [Access::TokenForUser, Access::Basic] {
        let fixture = guarded(access).await;
        for auth in [None, Some(("user", "wrong"))] {
            let error = fixture.pull_with("app:1", None, auth).await.unwrap_err();
            let report = error.report();
            assert_eq!(error.kind(), ErrorKind::Unauthorized, "{report}");
            assert!(report.starts_with("pull access denied for "), "{report}");
            assert!(report.contains("may require 'docker login'"), "{report}");
            assert!(!report.contains("wrong"), "{report}");
        }
        // One answer is enough.
        assert!(fixture.registry.seen("/manifests/").len() <= 4);
        fixture.pull_with("app:1", None, USER).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let fixture = guarded(Access::Basic).await;
    let storage = Registry::start().await;
    let served = Served::make("app", layers(), "linux/amd64", false);
    served.serve(&storage);
    for layer in &served.layers {
        let path = served.blob_path(layer);
        let target = format!("http://{}/v2/{path}", storage.address);
        fixture.registry.set(&path, Answer::Redirect(target));
    }
    fixture.pull_with("app:1", None, USER).await.unwrap();
    let seen = storage.seen("/blobs/");
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_in_a_circle_or_to_files_end() {
    let fixture = Fixture::start().await;
    for target in [
        format!("http://{}/v2/app/manifests/1", fixture.registry.address),
        "file:///etc/passwd".to_owned(),
    ] {
        fixture.registry.set("app/manifests/1", Answer::Redirect(target));
        let error = fixture.pull("app:1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_registry_is_named() {
    let fixture = Fixture::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let reference: Reference = format!("{address}/app").parse().unwrap();
    let (events, _) = mpsc::channel(1);
    let error = fixture.store.pull(&reference, None, None, events).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let report = error.report();
    let start = format!("registry {address} cannot be reached: ");
    assert!(report.starts_with(&start) && report.contains("refused"), "{report}");
}

/// A store with these mirrors, and a pull of a name of the default registry.
async fn pull_mirrored(mirrors: &[&Registry], name: &str) -> Result<Image, ImageError> {
    let dir = TempDir::new().unwrap();
    let registry_mirrors =
        mirrors.iter().map(|mirror| format!("http://{}", mirror.address)).collect();
    let settings = Settings { registry_mirrors, insecure_registries: Vec::new() };
    let store = Store::open(dir.path(), settings).unwrap();
    let auth = husk_image::Credentials { username: "user".into(), password: "secret".into() };
    let (events, _) = mpsc::channel(1);
    store.pull(&name.parse().unwrap(), None, Some(auth), events).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_in_order_and_without_credentials() {
    let (empty, broken, full) =
        (Registry::start().await, Registry::start().await, Registry::start().await);
    let served = Served::put(&broken, "library/app:latest", layers(), "linux/amd64");
    broken.set(&served.blob_path(&served.layers[1]), Answer::Status(404, ""));
    Served::put(&full, "library/app:latest", layers(), "linux/amd64");
    let image = pull_mirrored(&[&empty, &broken, &full], "app").await.unwrap();
    assert_eq!(image.repo_tags, ["app:latest"]);
    assert_eq!(empty.seen("/v2/library/app/manifests/latest").len(), 1);
    let all = [empty.seen(""), broken.seen(""), full.seen("")].concat();
    assert!(all.iter().all(|seen| seen.authorization.is_none()), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_dropped_leaves_nothing() {
    let fixture = Fixture::start().await;
    let served = Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    let path = served.blob_path(&served.layers[0]);
    fixture.registry.set(&path, Answer::Silent);
    let pull = fixture.pull("app:1");
    let silence = async {
        while fixture.registry.seen(&path).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = pull => panic!("a silent registry cannot have been pulled from"),
        () = silence => {}
    }
    while !crate::fixture::file_names(&fixture.dir.path().join("ingest")).is_empty() {
        tokio::task::yield_now().await;
    }
    Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    fixture.pull("app:1").await.unwrap();
}
