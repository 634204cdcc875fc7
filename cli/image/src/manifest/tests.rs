//! Manifests, good and bad.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::ErrorKind;

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn parse(document: &Value) -> Result<Document, ImageError> {
    parse_document(document.to_string().as_bytes(), None, "app:1")
}

fn descriptor(media_type: &str, content: &str) -> Value {
    let digest = Digest::of(content.as_bytes()).to_string();
    json!({"mediaType": media_type, "digest": digest, "size": content.len()})
}

fn manifest_with(layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": descriptor(CONFIG_TYPES[0], "config"),
        "layers": layers,
    })
}

fn index_of(platforms: &[(&str, &str, &str)]) -> Value {
    let entries: Vec<Value> = platforms
        .iter()
        .map(|(os, architecture, variant)| {
            let mut entry = descriptor(MANIFEST_TYPES[0], &format!("{os}{architecture}{variant}"));
            entry["platform"] = json!({"os": os, "architecture": architecture, "variant": variant});
            entry
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": entries})
}

#[test]
fn both_families_of_media_types_are_read() {
    for (manifest, config, layer, compression) in [
        (0, 0, "application/vnd.oci.image.layer.v1.tar", Compression::None),
        (0, 0, OCI_LAYER, Compression::Gzip),
        (0, 0, "application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
        (1, 1, "application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    ] {
        let mut document = manifest_with(&[descriptor(layer, "layer")]);
        document["mediaType"] = json!(MANIFEST_TYPES[manifest]);
        document["config"] = descriptor(CONFIG_TYPES[config], "config");
        let Document::Manifest(found) = parse(&document).unwrap() else { panic!("{layer}") };
        assert_eq!(found.layers[0].compression, compression);
        assert_eq!(found.layers[0].descriptor.digest, Digest::of(b"layer"));
        assert_eq!(found.config.size, 6);
    }
}

#[test]
fn the_content_type_decides_where_the_document_is_silent() {
    let mut document = manifest_with(&[]);
    document.as_object_mut().unwrap().remove("mediaType");
    let bytes = document.to_string();
    let parse = |announced| parse_document(bytes.as_bytes(), announced, "app:1");
    assert!(parse(Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).is_ok());
    assert_eq!(parse(Some(SCHEMA_1_TYPES[1])).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn what_is_no_image_is_refused() {
    let mut helm = manifest_with(&[]);
    helm["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    let mut both = manifest_with(&[]);
    both["manifests"] = json!([]);
    let mut negative = manifest_with(&[descriptor(OCI_LAYER, "x")]);
    negative["layers"][0]["size"] = json!(-1);
    let mut digest = manifest_with(&[descriptor(OCI_LAYER, "x")]);
    digest["layers"][0]["digest"] = json!("sha256:../../etc/passwd");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for (document, kind) in [
        (helm, ErrorKind::Unsupported),
        (both, ErrorKind::Corrupt),
        (negative, ErrorKind::Corrupt),
        (digest, ErrorKind::Corrupt),
        (manifest_with(&[descriptor(foreign, "x")]), ErrorKind::Unsupported),
        (manifest_with(&[descriptor("text/html", "x")]), ErrorKind::Unsupported),
        (manifest_with(&vec![descriptor(OCI_LAYER, "x"); LAYERS_MAX + 1]), ErrorKind::TooLarge),
        (json!({"schemaVersion": 1, "fsLayers": []}), ErrorKind::Unsupported),
        (json!({"schemaVersion": 3}), ErrorKind::Unsupported),
        (json!([]), ErrorKind::Corrupt),
    ] {
        assert_eq!(parse(&document).unwrap_err().kind(), kind, "{document}");
    }
}

#[test]
fn the_best_variant_is_selected_and_attestations_are_not() {
    let document = index_of(&[
        ("unknown", "unknown", ""),
        ("linux", "arm", "v6"),
        ("linux", "arm", "v7"),
        ("linux", "amd64", ""),
        ("linux", "arm64", "v8"),
        ("linux", "amd64", "v3"),
    ]);
    let Document::Index(entries) = parse(&document).unwrap() else { panic!() };
    let select = |wanted: &str| {
        let wanted = wanted.parse().unwrap();
        select(&entries, &wanted).map(|entry| entry.platform.as_ref().unwrap().to_string())
    };
    assert_eq!(select("linux/amd64").as_deref(), Some("linux/amd64"));
    assert_eq!(select("linux/amd64/v2").as_deref(), Some("linux/amd64"));
    assert_eq!(select("linux/amd64/v4").as_deref(), Some("linux/amd64/v3"));
    assert_eq!(select("linux/arm64").as_deref(), Some("linux/arm64"));
    assert_eq!(select("linux/arm/v7").as_deref(), Some("linux/arm"));
    assert_eq!(select("linux/arm/v5"), None);
    assert_eq!(select("linux/s390x"), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_document(&bytes, None, "app:1");
    }
}
