//! Registries that fail or lie: one clear error, nothing left, and the next try works.

use bytes::Bytes;
use husk_image::{Digest, ErrorKind};
use serde_json::json;

use crate::fixture::{BLOB, Fixture, Layer, OCI_INDEX, OCI_MANIFEST, Packing, Served, gzip};
use crate::server::Answer;

fn good(packing: Packing) -> Layer {
    Layer::new("file", &noise(200_000), packing)
}

/// Bytes that do not compress.
fn noise(length: u32) -> Vec<u8> {
    let mut state = 1_u32;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// Pulls an image whose only layer is `layer` and whose blob answers `answer`; expects `kind` and
/// `text`; then lets the registry serve a good layer and pulls again.
async fn layer_fails(layer: Layer, answer: Option<Answer>, kind: ErrorKind, text: &str) {
    let fixture = Fixture::start().await;
    let other = Layer::new("other", b"good", Packing::Gzip);
    let served = Served::put(&fixture.registry, "app:1", vec![other, layer], "linux/amd64");
    let layer = &served.layers[1];
    if let Some(answer) = answer {
        fixture.registry.set(&served.blob_path(layer), answer);
    }
    let error = fixture.pull("app:1").await.unwrap_err();
    let report = error.report();
    assert_eq!(error.kind(), kind, "{report}");
    assert!(report.contains(text), "{report}");
    assert!(report.contains(&layer.digest().to_string()), "names the layer: {report}");
    assert!(report.contains(&fixture.name("app:1")), "names the image: {report}");
    assert!(!report.contains('\n'), "{report}");
    fixture.assert_clean();
    let name = fixture.name("app:1");
    assert_eq!(fixture.store.find(&name).unwrap_err().kind(), ErrorKind::NotFound);
    Served::put(&fixture.registry, "app:1", vec![good(layer.packing)], "linux/amd64");
    fixture.pull("app:1").await.unwrap();
    fixture.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_of_the_same_length_have_the_wrong_digest() {
    for packing in [Packing::Gzip, Packing::Zstd, Packing::None] {
        let layer = good(packing);
        let mut bytes = layer.blob.to_vec();
        bytes[100_000] ^= 1;
        let answer = Answer::Content(bytes.into(), BLOB);
        layer_fails(layer, Some(answer), ErrorKind::Corrupt, "wrong digest").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_good_layer_has_the_wrong_digest() {
    let answer = Answer::Chunked(Layer::new("x", &noise(200_000), Packing::Gzip).blob);
    let layer = good(Packing::Gzip);
    let Answer::Chunked(bytes) = &answer else { unreachable!() };
    assert!(bytes.len() <= layer.blob.len() + 100);
    let padded = [bytes, &vec![0; 300][..]].concat();
    let answer = Answer::Content(Bytes::from(padded).slice(..layer.blob.len()), BLOB);
    layer_fails(layer, Some(answer), ErrorKind::Corrupt, "wrong digest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_always_breaks_off_is_truncated() {
    let layer = good(Packing::Gzip);
    let answer = Answer::Cut(layer.blob.clone(), 1000);
    layer_fails(layer, Some(answer), ErrorKind::Corrupt, "truncated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_early_is_truncated() {
    let layer = good(Packing::Zstd);
    let answer = Answer::Chunked(layer.blob.slice(..1000));
    layer_fails(layer, Some(answer), ErrorKind::Corrupt, "truncated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_is_refused() {
    let layer = good(Packing::Gzip);
    let short = Answer::Content(layer.blob.slice(..1000), BLOB);
    layer_fails(layer.clone(), Some(short), ErrorKind::Corrupt, "wrong size").await;
    let long = Bytes::from([&layer.blob[..], b"more"].concat());
    layer_fails(
        layer.clone(),
        Some(Answer::Chunked(long.clone())),
        ErrorKind::Corrupt,
        "wrong size",
    )
    .await;
    let long = Answer::Content(long, BLOB);
    layer_fails(layer, Some(long), ErrorKind::Corrupt, "wrong size").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_after_the_compressed_stream_is_refused() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let layer = good(packing);
        let blob = [&layer.blob[..], b"garbage!"].concat();
        layer_fails(layer.with_blob(blob), None, ErrorKind::Corrupt, "trailing garbage").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_compressed_stream_is_refused() {
    for (packing, text) in
        [(Packing::Gzip, "corrupt gzip stream"), (Packing::Zstd, "corrupt zstd stream")]
    {
        let layer = good(packing);
        let mut blob = layer.blob.to_vec();
        // Behind the magic number: in the headers of both.
        blob[4..68].fill(0xff);
        layer_fails(layer.clone().with_blob(blob), None, ErrorKind::Corrupt, text).await;
        let half = layer.blob.slice(..layer.blob.len() / 2);
        layer_fails(layer.with_blob(half), None, ErrorKind::Corrupt, text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_not_what_its_media_type_says_is_refused() {
    let zstd = good(Packing::Zstd);
    let layer = Layer { packing: Packing::Gzip, ..zstd };
    layer_fails(layer, None, ErrorKind::Corrupt, "its media type says gzip").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_another_diff_id_is_refused() {
    let layer = Layer { diff_id: Digest::of(b"another"), ..good(Packing::Gzip) };
    layer_fails(layer, None, ErrorKind::Corrupt, "wrong digest of its content").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_expands_a_thousandfold_is_refused() {
    let zeros = vec![0; 80 << 20];
    for packing in [Packing::Gzip, Packing::Zstd] {
        let mut layer = Layer::new("zeros", &zeros, packing);
        if matches!(packing, Packing::Gzip) {
            // Nine is what passes a thousandfold.
            let tar = Layer::new("zeros", &zeros, Packing::None).blob;
            let mut best = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut best, &tar).unwrap();
            layer = layer.with_blob(best.finish().unwrap());
        }
        layer_fails(layer, None, ErrorKind::TooLarge, "expands more than 1000-fold").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tar_is_refused() {
    let bytes = noise(100_000);
    let layer =
        Layer { blob: gzip(&bytes).into(), diff_id: Digest::of(&bytes), packing: Packing::Gzip };
    layer_fails(layer, None, ErrorKind::Corrupt, "converting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_layer_is_named() {
    let answer = Answer::Status(404, "");
    layer_fails(good(Packing::Gzip), Some(answer), ErrorKind::NotFound, "not found").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_resumed() {
    for ranges in [true, false] {
        let fixture = Fixture::start().await;
        let layer = good(Packing::Gzip);
        let served = Served::put(&fixture.registry, "app:1", vec![layer], "linux/amd64");
        let bytes = served.layers[0].blob.clone();
        let answer = Answer::CutOnce { bytes, after: 70_000, ranges };
        fixture.registry.set(&served.blob_path(&served.layers[0]), answer);
        fixture.pull("app:1").await.unwrap();
        assert_eq!(fixture.registry.seen(&served.blob_path(&served.layers[0])).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_registry_is_asked_again() {
    for status in [500, 503, 429] {
        let fixture = Fixture::start().await;
        let served =
            Served::put(&fixture.registry, "app:1", vec![good(Packing::Gzip)], "linux/amd64");
        let answer = Answer::FailFirst {
            failures: 2,
            status,
            bytes: served.manifest.clone(),
            media_type: OCI_MANIFEST,
        };
        fixture.registry.set("app/manifests/1", answer);
        fixture.pull("app:1").await.unwrap();
        assert_eq!(fixture.registry.seen("/manifests/1").len(), 3);
    }
}

/// Sets what the manifest's path answers, and expects a kind and words.
async fn manifest_fails(answer: Answer, kind: ErrorKind, texts: &[&str]) {
    let fixture = Fixture::start().await;
    fixture.registry.set("app/manifests/1", answer);
    let error = fixture.pull("app:1").await.unwrap_err();
    let report = error.report();
    assert_eq!(error.kind(), kind, "{report}");
    for text in texts.iter().copied().chain([fixture.name("app:1").as_str()]) {
        assert!(report.contains(text), "{report}");
    }
    fixture.assert_clean();
    Served::put(&fixture.registry, "app:1", vec![good(Packing::Gzip)], "linux/amd64");
    fixture.pull("app:1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_manifest_are_told_apart() {
    let status = |status| Answer::Status(status, "");
    manifest_fails(status(404), ErrorKind::NotFound, &["not found: manifest unknown"]).await;
    manifest_fails(status(500), ErrorKind::Unavailable, &["answered 500", "try later"]).await;
    manifest_fails(status(429), ErrorKind::Unavailable, &["429"]).await;
    manifest_fails(status(403), ErrorKind::Unauthorized, &["pull access denied"]).await;
    let html = Answer::Content(Bytes::from_static(b"<html>"), "text/html");
    manifest_fails(html, ErrorKind::Corrupt, &["not a manifest"]).await;
    let first = Bytes::from(json!({"schemaVersion": 1}).to_string());
    let first = Answer::Content(first, "application/json");
    manifest_fails(first, ErrorKind::Unsupported, &["schema 1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_100_mb_is_refused_and_not_read() {
    let fixture = Fixture::start().await;
    fixture.registry.set("app/manifests/1", Answer::Endless(1600));
    let error = fixture.pull("app:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let read = fixture.registry.chunks_sent() * (64 << 10);
    // What counts as sent is more than what was read, by the sockets' buffers.
    assert!(read < 40 << 20, "{read} bytes were sent");
    let announced = Answer::Content(Bytes::from(vec![b' '; 5 << 20]), OCI_MANIFEST);
    manifest_fails(announced, ErrorKind::TooLarge, &["over the limit"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_and_manifests_of_an_index_are_verified() {
    let fixture = Fixture::start().await;
    let served = Served::put(&fixture.registry, "app:1", vec![good(Packing::Gzip)], "linux/amd64");
    let path = format!("app/blobs/{}", Digest::of(&served.config));
    let other = Bytes::from([&served.config[..], b" "].concat());
    fixture.registry.set(&path, Answer::Content(other, BLOB));
    let error = fixture.pull("app:1").await.unwrap_err();
    assert!(error.to_string().contains("wrong digest"), "{error}");
    let digest = Digest::of(&served.manifest);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
        "mediaType": OCI_MANIFEST, "digest": digest.to_string(), "size": 7,
        "platform": {"os": "linux", "architecture": "amd64"},
    }]});
    fixture.registry.set("app/manifests/2", Answer::Content(index.to_string().into(), OCI_INDEX));
    let error = fixture.pull_with("app:2", Some("linux/amd64"), None).await.unwrap_err();
    assert!(error.to_string().contains("wrong size"), "{error}");
    let lie = Answer::Content(Bytes::from_static(b"{}"), OCI_MANIFEST);
    fixture.registry.set(&format!("app/manifests/{digest}"), lie);
    let error = fixture.pull(&format!("app@{digest}")).await.unwrap_err();
    assert!(error.to_string().contains("wrong digest"), "{error}");
    fixture.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_without_end_are_refused() {
    let fixture = Fixture::start().await;
    let mut inner =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    for _ in 0..6 {
        let digest = Digest::of(inner.as_bytes());
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
            "mediaType": OCI_INDEX, "digest": digest.to_string(), "size": inner.len(),
        }]});
        let path = format!("app/manifests/{digest}");
        fixture.registry.set(&path, Answer::Content(inner.into(), OCI_INDEX));
        inner = index.to_string();
    }
    fixture.registry.set("app/manifests/1", Answer::Content(inner.into(), OCI_INDEX));
    let error = fixture.pull("app:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}
