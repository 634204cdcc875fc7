//! What this host can run microVMs on: `husk-vmm probe`, asked once per boot of the host.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::UNIX_EPOCH;

use husk_api::{ApiError, ErrorCode};
use husk_vmm_config::Probe;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::limits::PROBE_DEADLINE;
use crate::paths::Paths;

/// The answer, asked for at first need and kept.
#[derive(Debug)]
pub(crate) struct HostProbe {
    program: PathBuf,
    cache: PathBuf,
    answer: OnceCell<Probe>,
}

/// The answer on disk, and what it holds for: measuring KVM takes a second on some hosts.
#[derive(Deserialize, Serialize)]
struct Cached {
    boot_id: String,
    program_modified_ns: u128,
    search_path: String,
    probe: Probe,
}

impl HostProbe {
    pub(crate) fn new(paths: &Paths) -> Self {
        Self { program: paths.vmm(), cache: paths.probe_cache(), answer: OnceCell::new() }
    }

    /// The answer.
    ///
    /// # Errors
    /// `Unavailable` if `husk-vmm` is missing or fails; asked again next time.
    pub(crate) async fn get(&self) -> Result<&Probe, ApiError> {
        self.answer.get_or_try_init(|| self.load()).await
    }

    async fn load(&self) -> Result<Probe, ApiError> {
        let key = self.key();
        if let (Some(key), Ok(text)) = (&key, tokio::fs::read(&self.cache).await)
            && let Ok(cached) = serde_json::from_slice::<Cached>(&text)
            && (&cached.boot_id, cached.program_modified_ns, &cached.search_path)
                == (&key.0, key.1, &key.2)
            && cached.probe.emulator.as_ref().is_none_or(|program| program.exists())
        {
            return Ok(cached.probe);
        }
        let probe = self.ask().await?;
        if let Some((boot_id, program_modified_ns, search_path)) = key {
            let cached = Cached { boot_id, program_modified_ns, search_path, probe: probe.clone() };
            if let Ok(text) = serde_json::to_vec(&cached)
                && probe.emulator.is_some()
                && let Err(error) = tokio::fs::write(&self.cache, text).await
            {
                tracing::debug!(%error, "probe is not cached");
            }
        }
        Ok(probe)
    }

    async fn ask(&self) -> Result<Probe, ApiError> {
        let unavailable = |problem: String| {
            ApiError::new(
                ErrorCode::Unavailable,
                format!("failed to probe this host with {}: {problem}", self.program.display()),
            )
        };
        let output = Command::new(&self.program)
            .arg("probe")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(PROBE_DEADLINE, output)
            .await
            .map_err(|_| unavailable(format!("no answer within {PROBE_DEADLINE:?}")))?
            .map_err(|error| unavailable(error.to_string()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(unavailable(text.lines().last().unwrap_or("it failed").to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| unavailable(error.to_string()))
    }

    fn key(&self) -> Option<(String, u128, String)> {
        let modified = self.program.metadata().ok()?.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        let search_path = std::env::var("PATH").unwrap_or_default();
        Some((boot_id()?, since.as_nanos(), search_path))
    }
}

/// The ID that the host's kernel made up when it booted.
pub(crate) fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id")).ok()?;
    Some(text.trim().to_owned())
}
