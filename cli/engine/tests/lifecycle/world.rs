//! A data root, an exec root, and an engine on them that can be crashed.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use husk_api::models::{ContainerCreateBody, HostConfig};
use husk_engine::{
    AcceleratorChoice, CreateRequest, Engine, EngineConfig, ImageSource, OutputChunk, Pull,
};
use husk_image::{
    Credentials, Image, ImageError, Platform, PullEvent, Reference, Rootfs, RootfsPart,
};
use oci_spec::image::ImageConfiguration;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Directories of one engine.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) config: EngineConfig,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let config = EngineConfig {
            data_root: at("data"),
            exec_root: at("run"),
            libexec: at("libexec"),
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            accelerator: AcceleratorChoice::Auto,
        };
        std::fs::create_dir(&config.libexec).unwrap();
        std::fs::write(config.libexec.join("vmlinux"), [0; 512]).unwrap();
        std::fs::write(config.libexec.join("husk-agent"), "agent").unwrap();
        // The test program itself plays husk-vmm: see `fake_vmm_process` in main.rs.
        let program = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\n\
             if [ \"$1\" = probe ]; then\n\
             echo '{{\"kvm\":{{\"kind\":\"absent\"}},\"emulator\":\"/bin/true\",\"emulator_version\":\"fake\"}}'\n\
             else\n\
             HUSK_FAKE_VMM=1 exec {} --exact fake_vmm_process --nocapture\n\
             fi\n",
            program.display()
        );
        let vmm = config.libexec.join("husk-vmm");
        std::fs::write(&vmm, script).unwrap();
        std::fs::set_permissions(&vmm, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, config }
    }

    /// An engine on a runtime of its own, so that it can be crashed.
    pub(crate) fn engine(&self) -> Daemon {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let images = Arc::new(OneImage { dir: self.dir.path().to_owned() });
        let engine = runtime.block_on(Engine::open_with(self.config.clone(), images)).unwrap();
        Daemon { engine, runtime: Some(runtime) }
    }

    /// Run directories of sandboxes, and directories of containers, that are there.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        [self.config.exec_root.join("s"), self.config.data_root.join("containers")]
            .iter()
            .flat_map(|dir| std::fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

impl Drop for World {
    /// Ends what a story left running, or what a failed one did.
    fn drop(&mut self) {
        let sandboxes = std::fs::read_dir(self.config.exec_root.join("s"));
        for sandbox in sandboxes.into_iter().flatten().flatten() {
            let identity = std::fs::read(sandbox.path().join("vmm.json")).unwrap_or_default();
            let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap_or_default();
            let pid = identity["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            if let Some(pid) = pid.and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// An engine in a process of its own, as far as a test can have it; dropping it shuts it down.
pub(crate) struct Daemon {
    pub(crate) engine: Engine,
    runtime: Option<Runtime>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.engine.shutdown());
        }
    }
}

impl Daemon {
    pub(crate) fn run<T>(&self, story: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it has not crashed").block_on(async {
            tokio::time::timeout(Duration::from_secs(60), story).await.expect("the story hangs")
        })
    }

    /// Ends it as kill -9 does: no task runs on, nothing is tidied up.
    pub(crate) fn crash(mut self) {
        let runtime = self.runtime.take().expect("it crashes once");
        runtime.shutdown_timeout(Duration::from_secs(10));
    }

    /// Creates a container and answers its ID.
    pub(crate) fn create(&self, body: ContainerCreateBody) -> String {
        let request = CreateRequest { name: None, platform: None, body };
        self.run(self.engine.create(request)).unwrap().id
    }

    /// State and exit code, as a listing and an inspection have them.
    pub(crate) fn state(&self, id: &str) -> (String, i64, String) {
        self.run(async {
            let state = self.engine.inspect(id).await.unwrap().docker.state.unwrap();
            let listed = self.engine.list(true, None, &HashMap::new()).await.unwrap();
            let listed = listed.into_iter().find(|one| one.id.as_deref() == Some(id)).unwrap();
            let status = state.status.unwrap().to_string();
            assert_eq!(listed.state.unwrap().to_string(), status);
            (status, state.exit_code.unwrap(), state.error.unwrap())
        })
    }
}

/// A request to run `script` with `sh`.
pub(crate) fn shell(script: &str) -> ContainerCreateBody {
    command(&["sh", "-c", script])
}

pub(crate) fn command(args: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: Some(args.iter().map(|arg| (*arg).to_owned()).collect()),
        host_config: Some(HostConfig::default()),
        ..ContainerCreateBody::default()
    }
}

pub(crate) fn with_stdin(body: ContainerCreateBody, once: bool) -> ContainerCreateBody {
    ContainerCreateBody { open_stdin: Some(true), stdin_once: Some(once), ..body }
}

pub(crate) fn with_host(
    body: ContainerCreateBody,
    change: impl FnOnce(&mut HostConfig),
) -> ContainerCreateBody {
    let mut host = body.host_config.clone().unwrap_or_default();
    change(&mut host);
    ContainerCreateBody { host_config: Some(host), ..body }
}

/// Everything a channel gives until it closes: standard output and standard error.
pub(crate) async fn collect(mut chunks: mpsc::Receiver<OutputChunk>) -> (Vec<u8>, Vec<u8>) {
    let mut output = (Vec::new(), Vec::new());
    while let Some(chunk) = chunks.recv().await {
        let stream = if chunk.stderr { &mut output.1 } else { &mut output.0 };
        stream.extend_from_slice(&chunk.bytes);
    }
    output
}

/// A store with one image, `busybox`.
#[derive(Debug)]
struct OneImage {
    dir: PathBuf,
}

impl OneImage {
    fn file(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        if !path.exists() {
            std::fs::write(&path, [0; 4096]).unwrap();
        }
        path
    }
}

impl ImageSource for OneImage {
    fn find(&self, name_or_id: &str) -> Result<Image, ImageError> {
        let id = format!("sha256:{}", "ab".repeat(32));
        if name_or_id != "busybox" && name_or_id != id {
            return Err(ImageError::NoSuchImage { name: format!("{name_or_id}:latest") });
        }
        let platform = Platform::host();
        let config = serde_json::json!({
            "architecture": platform.architecture, "os": platform.os,
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": []}
        });
        Ok(Image {
            id: id.parse().unwrap(),
            manifest: id.parse().unwrap(),
            repo_tags: vec!["busybox:latest".to_owned()],
            repo_digests: Vec::new(),
            config: serde_json::from_value::<ImageConfiguration>(config.clone()).unwrap(),
            raw_config: config.to_string(),
            created: None,
            size_bytes: 4096,
            platform,
            diff_ids: Vec::new(),
        })
    }

    fn list(&self) -> Result<Vec<Image>, ImageError> {
        Ok(vec![self.find("busybox")?])
    }

    fn rootfs(&self, _image: &Image) -> Result<Rootfs, ImageError> {
        let path = self.file("rootfs");
        let file = std::fs::File::open(&path).unwrap();
        Ok(Rootfs { parts: vec![RootfsPart { path, bytes: 4096, file }] })
    }

    fn system_image(&self, _name: &str, _program: &Path) -> Result<PathBuf, ImageError> {
        Ok(self.file("system"))
    }

    fn pull<'a>(
        &'a self,
        _reference: &'a Reference,
        _platform: Option<&'a Platform>,
        _auth: Option<Credentials>,
        _progress: mpsc::Sender<PullEvent>,
    ) -> Pull<'a> {
        Box::pin(async { Err(ImageError::Internal("no registry".to_owned())) })
    }
}
