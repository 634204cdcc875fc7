//! Images made in memory, and a store to pull them into.

use std::fs;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use flate2::write::GzEncoder;
use husk_image::{Credentials, Digest, Image, ImageError, PullEvent, Settings, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::server::{Answer, Registry};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const BLOB: &str = "application/octet-stream";

/// How a layer is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packing {
    Gzip,
    Zstd,
    None,
}

/// A layer as a registry has it.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) blob: Bytes,
    pub(crate) diff_id: Digest,
    pub(crate) packing: Packing,
}

impl Layer {
    /// A layer with one file of this content.
    pub(crate) fn new(path: &str, content: &[u8], packing: Packing) -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, path, content).unwrap();
        Self::of_tar(&builder.into_inner().unwrap(), packing)
    }

    pub(crate) fn of_tar(tar: &[u8], packing: Packing) -> Self {
        let blob = match packing {
            Packing::Gzip => gzip(tar),
            Packing::Zstd => zstd::encode_all(tar, 1).unwrap(),
            Packing::None => tar.to_vec(),
        };
        Self { blob: blob.into(), diff_id: Digest::of(tar), packing }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.blob)
    }

    /// Changes the blob, and with it what the manifest will say.
    pub(crate) fn with_blob(self, blob: impl Into<Bytes>) -> Self {
        Self { blob: blob.into(), ..self }
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image as a registry has it.
pub(crate) struct Served {
    pub(crate) repository: String,
    pub(crate) config: Bytes,
    pub(crate) manifest: Bytes,
    pub(crate) layers: Vec<Layer>,
}

impl Served {
    /// Puts an image up as `repository:tag`; OCI media types, or Docker's where all is gzip.
    pub(crate) fn put(registry: &Registry, name: &str, layers: Vec<Layer>, platform: &str) -> Self {
        let (repository, tag) = name.split_once(':').unwrap();
        let served = Self::make(repository, layers, platform, false);
        served.serve(registry);
        registry.set(
            &format!("{repository}/manifests/{tag}"),
            Answer::Content(served.manifest.clone(), OCI_MANIFEST),
        );
        served
    }

    pub(crate) fn make(repository: &str, layers: Vec<Layer>, platform: &str, docker: bool) -> Self {
        let (os, architecture) = platform.split_once('/').unwrap();
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = json!({
            "os": os, "architecture": architecture, "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Bytes::from(config.to_string());
        let describe = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes).to_string();
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let (manifest_type, config_type) = if docker {
            (DOCKER_MANIFEST, "application/vnd.docker.container.image.v1+json")
        } else {
            (OCI_MANIFEST, "application/vnd.oci.image.config.v1+json")
        };
        let described: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let media_type = match (layer.packing, docker) {
                    (Packing::Gzip, true) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    (Packing::Gzip, false) => "application/vnd.oci.image.layer.v1.tar+gzip",
                    (Packing::Zstd, _) => "application/vnd.oci.image.layer.v1.tar+zstd",
                    (Packing::None, _) => "application/vnd.oci.image.layer.v1.tar",
                };
                describe(media_type, &layer.blob)
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type,
            "config": describe(config_type, &config), "layers": described,
        });
        let manifest = Bytes::from(manifest.to_string());
        Self { repository: repository.to_owned(), config, manifest, layers }
    }

    /// Puts up all that goes by digest.
    pub(crate) fn serve(&self, registry: &Registry) {
        let repository = &self.repository;
        let config = Digest::of(&self.config);
        let manifest = Digest::of(&self.manifest);
        registry.set(
            &format!("{repository}/blobs/{config}"),
            Answer::Content(self.config.clone(), BLOB),
        );
        registry.set(
            &format!("{repository}/manifests/{manifest}"),
            Answer::Content(self.manifest.clone(), OCI_MANIFEST),
        );
        for layer in &self.layers {
            registry.set(&self.blob_path(layer), Answer::Content(layer.blob.clone(), BLOB));
        }
    }

    pub(crate) fn blob_path(&self, layer: &Layer) -> String {
        format!("{}/blobs/{}", self.repository, layer.digest())
    }
}

/// A store in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) registry: Registry,
    pub(crate) store: Store,
    pub(crate) dir: TempDir,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path(), Settings::default()).unwrap();
        Self { registry: Registry::start().await, store, dir }
    }

    /// `127.0.0.1:port/name`.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.address)
    }

    pub(crate) async fn pull(&self, name: &str) -> Result<Image, ImageError> {
        self.pull_with(name, None, None).await
    }

    pub(crate) async fn pull_with(
        &self,
        name: &str,
        platform: Option<&str>,
        auth: Option<(&str, &str)>,
    ) -> Result<Image, ImageError> {
        let reference = self.name(name).parse().unwrap();
        let platform = platform.map(|platform| platform.parse().unwrap());
        let auth = auth.map(|(username, password)| Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        });
        // Nobody listens, and that must do no harm.
        let (events, _) = mpsc::channel(1);
        self.store.pull(&reference, platform.as_ref(), auth, events).await
    }

    /// Pulls and collects the events.
    pub(crate) async fn pull_events(&self, name: &str) -> (Image, Vec<PullEvent>) {
        let (events, mut received) = mpsc::channel(4096);
        let reference = self.name(name).parse().unwrap();
        let image = self.store.pull(&reference, None, None, events).await.unwrap();
        let mut all = Vec::new();
        while let Some(event) = received.recv().await {
            all.push(event);
        }
        (image, all)
    }

    /// Fails if anything half-written is there.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(file_names(&self.dir.path().join("ingest")), Vec::<String>::new());
    }
}

pub(crate) fn file_names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
