//! Where everything lies.
//!
//! ```text
//! data root   lock  state.db  images/  cache/  containers/<id>/{log, writable.ext4}
//! exec root   probe.json  s/<short id>/{control,vsock,guest-1023}.sock, vmm.json, report, stderr
//! libexec     husk-vmm  husk-agent  vmlinux
//! ```

use std::path::{Path, PathBuf};

use crate::engine::EngineConfig;
use crate::id::ContainerId;

/// Paths of one engine.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    data_root: PathBuf,
    exec_root: PathBuf,
    libexec: PathBuf,
}

impl Paths {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        Self {
            data_root: config.data_root.clone(),
            exec_root: config.exec_root.clone(),
            libexec: config.libexec.clone(),
        }
    }

    pub(crate) fn data_root(&self) -> &Path {
        &self.data_root
    }

    pub(crate) fn exec_root(&self) -> &Path {
        &self.exec_root
    }

    /// Held by the one daemon that uses the data root.
    pub(crate) fn lock(&self) -> PathBuf {
        self.data_root.join("lock")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.data_root.join("state.db")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.data_root.join("images")
    }

    /// Things that can be made again.
    pub(crate) fn cache(&self) -> PathBuf {
        self.data_root.join("cache")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.data_root.join("containers")
    }

    /// What lasts as long as the container.
    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("log")
    }

    pub(crate) fn writable_disk(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("writable.ext4")
    }

    /// Run directories of all sandboxes.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.exec_root.join("s")
    }

    /// What lasts as long as the microVM; short, for the sockets in it.
    pub(crate) fn sandbox(&self, id: &ContainerId) -> PathBuf {
        self.sandboxes().join(id.short())
    }

    pub(crate) fn probe_cache(&self) -> PathBuf {
        self.exec_root.join("probe.json")
    }

    pub(crate) fn vmm(&self) -> PathBuf {
        self.libexec.join("husk-vmm")
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.libexec.join("husk-agent")
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.libexec.join("vmlinux")
    }
}
