//! Where the daemon's socket, data and helper programs are, for client and daemon alike.

use std::path::{Path, PathBuf};

/// The file name of the daemon's socket in the exec root.
const SOCKET_NAME: &str = "husk.sock";

/// `sun_path` holds 108 bytes with the terminating zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// Why a place cannot be used.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum LocationError {
    /// Not a unix socket.
    #[error("unsupported host {0:?}: only unix:///path/to/socket is supported")]
    Scheme(String),
    /// A relative or empty path.
    #[error("invalid host {0:?}: the socket path must be absolute")]
    Relative(String),
    /// Longer than the kernel takes.
    #[error("invalid host {0:?}: a socket path has at most {SOCKET_PATH_MAX} bytes")]
    Long(String),
}

/// Reads `unix:///path` (or a bare absolute path).
pub(crate) fn socket_of_host(host: &str) -> Result<PathBuf, LocationError> {
    let path = match host.strip_prefix("unix://") {
        Some(path) => path,
        None if host.starts_with('/') => host,
        None => return Err(LocationError::Scheme(host.to_owned())),
    };
    if !path.starts_with('/') {
        return Err(LocationError::Relative(host.to_owned()));
    }
    if path.len() > SOCKET_PATH_MAX {
        return Err(LocationError::Long(host.to_owned()));
    }
    Ok(PathBuf::from(path))
}

/// The socket for `--host`/`HUSK_HOST`, or else the one in the exec root.
pub(crate) fn socket(host: Option<&str>) -> Result<PathBuf, LocationError> {
    match host.filter(|host| !host.is_empty()) {
        Some(host) => socket_of_host(host),
        None => Ok(exec_root().join(SOCKET_NAME)),
    }
}

/// `HUSK_EXEC_ROOT`, or `/run/husk` for root, or `$XDG_RUNTIME_DIR/husk`.
pub(crate) fn exec_root() -> PathBuf {
    if let Some(root) = environment_path("HUSK_EXEC_ROOT") {
        return root;
    }
    match environment_path("XDG_RUNTIME_DIR") {
        Some(runtime) if !is_root() => runtime.join("husk"),
        _ if is_root() => PathBuf::from("/run/husk"),
        _ => std::env::temp_dir().join(format!("husk-{}", rustix::process::geteuid().as_raw())),
    }
}

/// `HUSK_DATA_ROOT`, or `/var/lib/husk` for root, or `$XDG_DATA_HOME/husk`.
pub(crate) fn data_root() -> PathBuf {
    if let Some(root) = environment_path("HUSK_DATA_ROOT") {
        return root;
    }
    if is_root() {
        return PathBuf::from("/var/lib/husk");
    }
    environment_path("XDG_DATA_HOME")
        .or_else(|| environment_path("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(std::env::temp_dir)
        .join("husk")
}

/// `HUSK_LIBEXEC`, or the directory with `husk-vmm` nearest to this executable.
pub(crate) fn libexec() -> PathBuf {
    if let Some(directory) = environment_path("HUSK_LIBEXEC") {
        return directory;
    }
    let executable = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/husk"));
    let home = executable.parent().unwrap_or(Path::new("/usr/bin"));
    let candidates = [home.to_path_buf(), home.join("../libexec/husk"), home.join("../lib/husk")];
    candidates
        .iter()
        .find(|directory| directory.join("husk-vmm").exists())
        .unwrap_or(&candidates[0])
        .clone()
}

/// The settings file that is read when none is named.
pub(crate) fn default_config_file() -> PathBuf {
    PathBuf::from("/etc/husk/daemon.json")
}

/// A path from the environment; an empty value counts as none.
fn environment_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_unix_socket() {
        assert_eq!(socket_of_host("unix:///run/x.sock"), Ok(PathBuf::from("/run/x.sock")));
        assert_eq!(socket_of_host("/run/x.sock"), Ok(PathBuf::from("/run/x.sock")));
    }

    #[test]
    fn other_hosts_are_refused_by_name() {
        assert_eq!(
            socket_of_host("tcp://1.2.3.4:2375"),
            Err(LocationError::Scheme("tcp://1.2.3.4:2375".into()))
        );
        assert_eq!(
            socket_of_host("unix://relative"),
            Err(LocationError::Relative("unix://relative".into()))
        );
        let long = format!("unix:///{}", "a".repeat(200));
        assert_eq!(socket_of_host(&long), Err(LocationError::Long(long.clone())));
    }
}
