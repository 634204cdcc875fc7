//! The CNCF distribution registry, as Debian packages it, over a folder in the cache.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::Registry;
use crate::fixture::{self, Layout};
use crate::{Invocation, Result, cache};

/// How long the registry may take to listen.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Bumped when what this file pushes changes.
const REVISION: &str = "1";

/// A registry that runs; dropping it ends it.
#[derive(Debug)]
pub struct Distribution {
    child: Child,
    address: String,
}

impl Distribution {
    /// Serves the images of the stories: `library/busybox` with the tags `latest` and `1`, and
    /// `library/debian:python`. They are made and pushed once, then kept.
    ///
    /// # Errors
    /// If they cannot be made, or the registry does not start.
    pub fn start() -> Result<Self> {
        let busybox = fixture::busybox()?;
        let debian = fixture::debian_python()?;
        Self::serving(
            "registry",
            &[
                ("library/busybox:latest", &busybox),
                ("library/busybox:1", &busybox),
                ("library/debian:python", &debian),
            ],
        )
    }

    /// As [`Self::start`], with these images: a name for the folder in the cache, and references.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn serving(name: &str, images: &[(&str, &Layout)]) -> Result<Self> {
        let mut inputs = vec![REVISION.to_owned()];
        for (reference, layout) in images {
            inputs.push(format!("{reference}@{}", layout.image.manifest.digest));
        }
        let inputs: Vec<&[u8]> = inputs.iter().map(String::as_bytes).collect();
        let storage = cache::made_once(name, &inputs, |folder| {
            let registry = Self::over(folder)?;
            for (reference, layout) in images {
                registry.push(layout, reference)?;
            }
            Ok(())
        })?;
        Self::over(&storage)
    }

    /// Serves what lies in a folder.
    fn over(storage: &Path) -> Result<Self> {
        // Every registry has a file of its own: others may serve the same folder at this moment.
        let config = tempfile::NamedTempFile::new()?;
        let settings = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http: {{addr: '127.0.0.1:0'}}\n",
            storage.display()
        );
        fs::write(config.path(), settings)?;
        // Ends with the test even if that is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(config.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start docker-registry: is it installed?")?;
        let log = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let (sender, receiver) = mpsc::channel();
        // Reads to the end, or the registry would wait for room in the pipe.
        std::thread::spawn(move || {
            for line in log.lines().map_while(std::result::Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let address = rest.split(['"', ' ', ',']).next().unwrap_or(rest);
                    // The starter may have given up.
                    let _ = sender.send(address.to_owned());
                }
            }
        });
        let registry = Self { child, address: String::new() };
        let address = receiver
            .recv_timeout(START_DEADLINE)
            .map_err(|_| anyhow!("docker-registry does not listen after {START_DEADLINE:?}"))?;
        Ok(registry.at(address))
    }

    fn at(mut self, address: String) -> Self {
        self.address = address;
        self
    }

    /// Pushes the image of a layout with `skopeo`.
    ///
    /// # Errors
    /// If that fails.
    pub fn push(&self, layout: &Layout, reference: &str) -> Result<()> {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        command.arg(format!("oci:{}:image", layout.folder.display()));
        command.arg(format!("docker://{}/{reference}", self.address));
        Invocation::new(command).output().map(drop)
    }
}

impl Registry for Distribution {
    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
