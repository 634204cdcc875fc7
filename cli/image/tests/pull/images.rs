//! Pulls that go well.

use std::sync::Arc;

use husk_image::{Digest, ErrorKind, LayerProgress, PullEvent};
use serde_json::json;

use crate::fixture::{Fixture, Layer, OCI_INDEX, OCI_MANIFEST, Packing, Served};
use crate::server::Answer;

fn layers() -> Vec<Layer> {
    vec![
        Layer::new("a", &[b'a'; 300_000], Packing::Gzip),
        Layer::new("b", b"second", Packing::Zstd),
        Layer::new("c", b"third", Packing::None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_every_name_it_has() {
    let fixture = Fixture::start().await;
    let served = Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    let image = fixture.pull("app:1").await.unwrap();
    let manifest = Digest::of(&served.manifest);
    assert_eq!(image.id, Digest::of(&served.config));
    assert_eq!(image.manifest, manifest);
    assert_eq!(image.repo_tags, [fixture.name("app:1")]);
    assert_eq!(image.repo_digests, [fixture.name(&format!("app@{manifest}"))]);
    assert_eq!(image.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!(image.platform.to_string(), "linux/amd64");
    assert_eq!(image.raw_config.as_bytes(), served.config);
    let id = image.id.to_string();
    for name in [
        &fixture.name("app:1"),
        &fixture.name(&format!("app@{manifest}")),
        &fixture.name(&format!("app:ignored@{manifest}")),
        &id,
        &id[7..],
        &id[7..11],
        &id[..10],
    ] {
        assert_eq!(fixture.store.find(name).unwrap().id, image.id, "{name}");
    }
    for name in [&fixture.name("app:2"), "app", "0", "sha256:", "", "A", &id[8..]] {
        let error = fixture.store.find(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
    }
    assert_eq!(fixture.store.find("app").unwrap_err().to_string(), "No such image: app:latest");
    assert_eq!(fixture.store.list().unwrap().len(), 1);
    fixture.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_file_system_is_metadata_and_then_the_layers() {
    let fixture = Fixture::start().await;
    let mut all = layers();
    all.push(all[1].clone());
    Served::put(&fixture.registry, "app:1", all, "linux/amd64");
    let image = fixture.pull("app:1").await.unwrap();
    let rootfs = fixture.store.rootfs(&image).unwrap();
    assert_eq!(rootfs.parts.len(), 5);
    assert_eq!(rootfs.parts[2].path, rootfs.parts[4].path);
    for part in &rootfs.parts {
        assert_eq!(part.file.metadata().unwrap().len(), part.bytes);
        assert!(part.bytes > 0 && part.bytes % 4096 == 0, "{}", part.path.display());
        assert!(std::os::unix::fs::FileExt::write_at(&part.file, b"x", 0).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_as_docker_tells_it() {
    let fixture = Fixture::start().await;
    let served = Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    let (_, events) = fixture.pull_events("app:1").await;
    let lines: Vec<String> = events
        .iter()
        .map(|event| match event.id() {
            Some(id) => format!("{id}: {event}"),
            None => event.to_string(),
        })
        .collect();
    assert_eq!(lines[0], format!("1: Pulling from {}", fixture.name("app")));
    let digest = Digest::of(&served.manifest);
    assert_eq!(lines[lines.len() - 2], format!("Digest: {digest}"));
    let last = format!("Status: Downloaded newer image for {}", fixture.name("app:1"));
    assert_eq!(lines.last(), Some(&last));
    for layer in &served.layers {
        let id = layer.digest().short();
        let own: Vec<&String> = lines.iter().filter(|line| line.starts_with(&id)).collect();
        assert_eq!(*own[0], format!("{id}: Pulling fs layer"));
        assert_eq!(*own[own.len() - 2], format!("{id}: Download complete"));
        assert_eq!(*own[own.len() - 1], format!("{id}: Pull complete"));
    }
    let (_, again) = fixture.pull_events("app:1").await;
    let existing = |event: &&PullEvent| {
        matches!(event, PullEvent::Layer { progress: LayerProgress::Exists, .. })
    };
    assert_eq!(again.iter().filter(existing).count(), 3);
    let last = again.last().unwrap().to_string();
    assert_eq!(last, format!("Status: Image is up to date for {}", fixture.name("app:1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_pulls_at_once_fetch_everything_once() {
    let fixture = Arc::new(Fixture::start().await);
    let served = Served::put(&fixture.registry, "app:1", layers(), "linux/amd64");
    let pulls: Vec<_> = (0..8)
        .map(|_| {
            let fixture = Arc::clone(&fixture);
            tokio::spawn(async move { fixture.pull("app:1").await.unwrap().id })
        })
        .collect();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), Digest::of(&served.config));
    }
    let blobs = fixture.registry.seen("/blobs/");
    assert_eq!(blobs.len(), 4, "{blobs:?}");
    fixture.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_shared_between_images() {
    let fixture = Fixture::start().await;
    Served::put(&fixture.registry, "one:1", layers(), "linux/amd64");
    let mut more = layers();
    more.push(Layer::new("d", b"fourth", Packing::Gzip));
    let served = Served::put(&fixture.registry, "two:1", more, "linux/amd64");
    fixture.pull("one:1").await.unwrap();
    let two = fixture.pull("two:1").await.unwrap();
    let blobs = fixture.registry.seen("/two/blobs/");
    assert_eq!(blobs.len(), 2, "{blobs:?}");
    assert_eq!(two.diff_ids.len(), served.layers.len());
    let ids: Vec<_> = fixture.store.list().unwrap().iter().map(|image| image.id).collect();
    assert_eq!(ids[0], two.id);
    assert_eq!(ids.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_moves_to_the_newer_image() {
    let fixture = Fixture::start().await;
    Served::put(&fixture.registry, "app:1", vec![layers().remove(0)], "linux/amd64");
    let old = fixture.pull("app:1").await.unwrap();
    Served::put(&fixture.registry, "app:1", vec![layers().remove(1)], "linux/amd64");
    let (new, events) = fixture.pull_events("app:1").await;
    assert!(matches!(events.last(), Some(PullEvent::Finished { newer: true, .. })));
    assert_eq!(fixture.store.find(&fixture.name("app:1")).unwrap().id, new.id);
    let old = fixture.store.find(&old.id.to_string()).unwrap();
    assert!(old.repo_tags.is_empty() && old.repo_digests.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_the_platform_asked_for() {
    let fixture = Fixture::start().await;
    let mut entries = Vec::new();
    let mut ids = Vec::new();
    for (platform, layer) in ["unknown/unknown", "linux/arm64", "linux/amd64"].iter().zip(layers())
    {
        let served = Served::make("app", vec![layer], platform, false);
        served.serve(&fixture.registry);
        let (os, architecture) = platform.split_once('/').unwrap();
        entries.push(json!({
            "mediaType": OCI_MANIFEST, "digest": Digest::of(&served.manifest).to_string(),
            "size": served.manifest.len(), "platform": {"os": os, "architecture": architecture},
        }));
        ids.push(Digest::of(&served.config));
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let index = bytes::Bytes::from(index.to_string());
    let named = Digest::of(&index);
    fixture.registry.set("app/manifests/1", Answer::Content(index, OCI_INDEX));
    let arm = fixture.pull_with("app:1", Some("linux/arm64/v8"), None).await.unwrap();
    assert_eq!((arm.id, arm.platform.to_string()), (ids[1], "linux/arm64".to_owned()));
    let amd = fixture.pull_with("app:1", Some("amd64"), None).await.unwrap();
    assert_eq!(amd.id, ids[2]);
    assert_eq!(amd.repo_digests, [fixture.name(&format!("app@{named}"))]);
    let error = fixture.pull_with("app:1", Some("linux/s390x"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PlatformMismatch);
    let text = error.to_string();
    let expected = "no matching manifest for linux/s390x in the manifest list entries";
    assert!(text.starts_with(expected), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_another_platform_is_refused_if_one_was_asked_for() {
    let fixture = Fixture::start().await;
    Served::put(&fixture.registry, "app:1", layers(), "linux/arm64");
    let error = fixture.pull_with("app:1", Some("linux/amd64"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PlatformMismatch);
    assert!(error.to_string().contains("wanted linux/amd64, actual: linux/arm64"), "{error}");
    fixture.pull("app:1").await.unwrap();
    Served::put(&fixture.registry, "app:2", layers(), "windows/amd64");
    let error = fixture.pull("app:2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PlatformMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_2_of_docker_is_read() {
    let fixture = Fixture::start().await;
    let served = Served::make("app", vec![layers().remove(0)], "linux/amd64", true);
    served.serve(&fixture.registry);
    let digest = Digest::of(&served.manifest);
    let image = fixture.pull(&format!("app@{digest}")).await.unwrap();
    assert!(image.repo_tags.is_empty());
    assert_eq!(image.repo_digests, [fixture.name(&format!("app@{digest}"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_members_and_zstd_frames_may_be_many() {
    let plain = Layer::new("a", &[b'a'; 100_000], Packing::None);
    let (first, second) = plain.blob.split_at(5000);
    let gzip = [crate::fixture::gzip(first), crate::fixture::gzip(second)].concat();
    let zstd = [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()].concat();
    for (tag, packing, blob) in [("1", Packing::Gzip, gzip), ("2", Packing::Zstd, zstd)] {
        let layer = Layer { packing, ..plain.clone() }.with_blob(blob);
        // A layer that is there would not be fetched again.
        let fixture = Fixture::start().await;
        Served::put(&fixture.registry, &format!("app:{tag}"), vec![layer], "linux/amd64");
        fixture.pull(&format!("app:{tag}")).await.unwrap();
        fixture.assert_clean();
    }
}
