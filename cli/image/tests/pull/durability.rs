//! The store over time: one process, what interrupted ones left, and files that were damaged.

use std::fs;

use husk_image::{ErrorKind, Settings, Store};

use crate::fixture::{Fixture, Layer, Packing, Served, file_names};

fn layers() -> Vec<Layer> {
    vec![Layer::new("a", &[b'a'; 100_000], Packing::Gzip), Layer::new("b", b"b", Packing::Zstd)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_until_the_first_one_is_gone() {
    let fixture = Fixture::start().await;
    let error = Store::open(fixture.dir.path(), Settings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("is in use by another daemon"), "{error}");
    let dir = fixture.dir;
    drop(fixture.store);
    Store::open(dir.path(), Settings::default()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_removes_what_was_half_written_and_keeps_the_rest() {
    let fixture = Fixture::start().await;
    Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    let image = fixture.pull("app:1").await.unwrap();
    let name = fixture.name("app:1");
    drop(fixture.store);
    let ingest = fixture.dir.path().join("ingest");
    fs::write(ingest.join("left"), "over").unwrap();
    let store = Store::open(fixture.dir.path(), Settings::default()).unwrap();
    assert_eq!(file_names(&ingest), Vec::<String>::new());
    let found = store.find(&name).unwrap();
    assert_eq!((found.id, found.repo_tags), (image.id, image.repo_tags.clone()));
    assert_eq!(store.rootfs(&image).unwrap().parts.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_layer_is_named_and_fetched_again() {
    let fixture = Fixture::start().await;
    Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    let image = fixture.pull("app:1").await.unwrap();
    let path = fixture.store.rootfs(&image).unwrap().parts[1].path.clone();
    fs::write(&path, "short").unwrap();
    let error = fixture.store.rootfs(&image).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().ends_with("pull it again"), "{error}");
    fixture.pull("app:1").await.unwrap();
    fixture.store.rootfs(&image).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_config_is_fetched_again() {
    let fixture = Fixture::start().await;
    Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    let image = fixture.pull("app:1").await.unwrap();
    fs::remove_file(fixture.dir.path().join("blobs/sha256").join(image.id.hex())).unwrap();
    let error = fixture.store.find(&fixture.name("app:1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    fixture.pull("app:1").await.unwrap();
    fixture.store.find(&fixture.name("app:1")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_written_once_as_a_system_image() {
    let fixture = Fixture::start().await;
    let program = fixture.dir.path().join("program");
    fs::write(&program, "first").unwrap();
    let first = fixture.store.system_image("agent", &program).unwrap();
    assert_eq!(fixture.store.system_image("agent", &program).unwrap(), first);
    fs::write(&program, "second").unwrap();
    let second = fixture.store.system_image("agent", &program).unwrap();
    assert_ne!(second, first);
    assert!(fs::metadata(&second).unwrap().len() > 0);
    let missing = fixture.dir.path().join("missing");
    assert!(fixture.store.system_image("agent", &missing).is_err());
    assert!(fixture.store.system_image("../agent", &program).is_err());
    fixture.assert_clean();
}
