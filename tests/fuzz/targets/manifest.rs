//! What a registry says: manifests, indexes, configs, and its demands for credentials.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use husk_fuzz::{Document, MEBIBYTE, bounded};
use husk_image::fuzzing::{challenge, config, manifest};
use libfuzzer_sys::fuzz_target;

/// Names and values of the documents.
const WORDS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "digest",
    "size",
    "platform",
    "os",
    "architecture",
    "variant",
    "annotations",
    "urls",
    "data",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.container.image.v1+json",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha512:e3b0",
    "linux",
    "amd64",
    "arm64",
    "v8",
    "rootfs",
    "type",
    "diff_ids",
    "history",
    "Env",
    "Cmd",
    "Entrypoint",
    "ExposedPorts",
    "Volumes",
    "User",
    "Labels",
    "Healthcheck",
    "created",
    "StopSignal",
    "WorkingDir",
];

fuzz_target!(|bytes: &[u8]| {
    bounded(4 * MEBIBYTE, || {
        parse(bytes, None);
        if let Ok(text) = std::str::from_utf8(bytes) {
            challenge(text);
        }
        let mut rest = Unstructured::new(bytes);
        let Ok(choice) = u8::arbitrary(&mut rest) else { return };
        let announced = WORDS.get(usize::from(choice)).copied();
        let Ok(Document(value)) = Document::read(&mut rest, WORDS) else { return };
        parse(&serde_json::to_vec(&value).expect("values have string keys"), announced);
    });
});

fn parse(bytes: &[u8], announced: Option<&str>) {
    for error in [manifest(bytes, announced).err(), config(bytes).err()].into_iter().flatten() {
        let text = error.to_string();
        assert!(text.len() < 1024, "one bounded line: {} bytes", text.len());
        assert!(!text.contains('\n'), "one line: {text:?}");
    }
}
