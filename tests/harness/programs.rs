//! Where the programs under test are.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, ensure};

use crate::Result;

/// The folder with `husk`, `husk-vmm`, `husk-agent` and `vmlinux` side by side: `$HUSK_PROGRAMS`,
/// or `husk/` in the build's target folder, where `make build` puts them.
///
/// # Errors
/// If there is none, with what makes one.
pub fn folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("HUSK_PROGRAMS") {
        return Ok(folder.into());
    }
    let exe = std::env::current_exe()?;
    exe.ancestors()
        .map(|folder| folder.join("husk"))
        .find(|folder| folder.join("husk").is_file())
        .ok_or_else(|| anyhow!("no husk/ folder above {}: run `make build`", exe.display()))
}

/// The program `tree-manifest`, which stands beside the tests.
///
/// # Errors
/// If it was not built.
pub fn tree_manifest() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let found = exe.ancestors().skip(1).take(2).map(|folder| folder.join("tree-manifest"));
    let program = found.into_iter().find(|path| path.is_file());
    program.ok_or_else(|| anyhow!("no tree-manifest beside {}", exe.display()))
}

/// The statically linked busybox that the small images are made of.
///
/// # Errors
/// If it is not installed, or needs libraries.
pub fn busybox() -> Result<&'static Path> {
    let path = Path::new("/bin/busybox");
    ensure!(path.is_file(), "install busybox-static: {path:?} is missing");
    Ok(path)
}
