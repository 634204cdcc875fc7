//! The daemon's settings: flag over environment over settings file over default.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use husk_engine::{AcceleratorChoice, EngineConfig};
use serde::Deserialize;

use crate::args::{Accelerator, DaemonArgs};
use crate::location::{self, LocationError};

/// A settings file larger than this is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything the daemon starts with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Where it listens.
    pub(super) socket: PathBuf,
    /// What the engine gets.
    pub(super) engine: EngineConfig,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(super) log_level: String,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// The file cannot be read.
    #[error("failed to read settings file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("invalid settings file {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The file is far too large.
    #[error("settings file {path} is larger than {FILE_BYTES_MAX} bytes")]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// An unknown log level.
    #[error("unknown log level {0:?}: use debug, info, warn or error")]
    LogLevel(String),
    /// A socket that cannot be.
    #[error(transparent)]
    Location(#[from] LocationError),
}

/// `daemon.json`, with Docker's names for what Docker has.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct SettingsFile {
    data_root: Option<PathBuf>,
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
    log_level: Option<String>,
    accelerator: Option<Accelerator>,
}

impl Settings {
    /// Merges all sources.
    pub(super) fn resolve(args: &DaemonArgs, host: Option<&str>) -> Result<Self, SettingsError> {
        let file = match &args.config_file {
            Some(path) => read(path)?,
            None => read_if_present(&location::default_config_file())?,
        };
        let exec_root = args.exec_root.clone().unwrap_or_else(location::exec_root);
        let socket = match (host, &args.exec_root) {
            (None, Some(root)) => root.join("husk.sock"),
            _ => location::socket(host)?,
        };
        let level = args.log_level.clone().or(file.log_level).unwrap_or_else(|| "info".into());
        Ok(Self {
            socket,
            engine: EngineConfig {
                data_root: args
                    .data_root
                    .clone()
                    .or(file.data_root)
                    .unwrap_or_else(location::data_root),
                exec_root,
                libexec: args.libexec.clone().unwrap_or_else(location::libexec),
                registry_mirrors: joined(file.registry_mirrors, &args.registry_mirrors),
                insecure_registries: joined(file.insecure_registries, &args.insecure_registries),
                accelerator: choice(args.accel.or(file.accelerator)),
            },
            log_level: tracing_level(&level)?.to_owned(),
        })
    }
}

fn choice(accelerator: Option<Accelerator>) -> AcceleratorChoice {
    match accelerator {
        None | Some(Accelerator::Auto) => AcceleratorChoice::Auto,
        Some(Accelerator::Kvm) => AcceleratorChoice::Kvm,
        Some(Accelerator::Software) => AcceleratorChoice::Software,
    }
}

/// Lists add up, as dockerd's do not: a flag that repeats the file is no error here.
fn joined(mut first: Vec<String>, second: &[String]) -> Vec<String> {
    for entry in second {
        if !first.contains(entry) {
            first.push(entry.clone());
        }
    }
    first
}

fn tracing_level(level: &str) -> Result<&'static str, SettingsError> {
    match level {
        "trace" => Ok("trace"),
        "debug" => Ok("debug"),
        "info" => Ok("info"),
        "warn" => Ok("warn"),
        "error" | "fatal" => Ok("error"),
        other => Err(SettingsError::LogLevel(other.to_owned())),
    }
}

fn read_if_present(path: &Path) -> Result<SettingsFile, SettingsError> {
    match read(path) {
        Err(SettingsError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(SettingsFile::default())
        }
        other => other,
    }
}

fn read(path: &Path) -> Result<SettingsFile, SettingsError> {
    let failed = |source| SettingsError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|len| len > FILE_BYTES_MAX) {
        return Err(SettingsError::Large { path: path.to_owned() });
    }
    serde_json::from_str(&text)
        .map_err(|source| SettingsError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args_with_file(text: &str) -> (tempfile::NamedTempFile, DaemonArgs) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let args =
            DaemonArgs { config_file: Some(file.path().to_owned()), ..DaemonArgs::default() };
        (file, args)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_lists_add_up() {
        let (_file, mut args) = args_with_file(
            r#"{"data-root": "/a", "registry-mirrors": ["http://m:1"], "log-level": "warn"}"#,
        );
        args.data_root = Some("/b".into());
        args.registry_mirrors = vec!["http://m:2".into(), "http://m:1".into()];
        let settings = Settings::resolve(&args, Some("unix:///x")).unwrap();
        assert_eq!(settings.engine.data_root, PathBuf::from("/b"));
        assert_eq!(settings.engine.registry_mirrors, ["http://m:1", "http://m:2"]);
        assert_eq!(settings.log_level, "warn");
    }

    #[test]
    fn the_accelerator_is_one_that_there_is() {
        let (_file, args) = args_with_file(r#"{"accelerator": "kvm"}"#);
        let settings = Settings::resolve(&args, Some("unix:///x")).unwrap();
        assert_eq!(settings.engine.accelerator, AcceleratorChoice::Kvm);
        let args = DaemonArgs { accel: Some(Accelerator::Software), ..args };
        let settings = Settings::resolve(&args, Some("unix:///x")).unwrap();
        assert_eq!(settings.engine.accelerator, AcceleratorChoice::Software);
        let (_file, args) = args_with_file(r#"{"accelerator": "fast"}"#);
        let error = Settings::resolve(&args, Some("unix:///x")).unwrap_err();
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(text.contains("`auto`, `kvm`, `software`"), "{text}");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let (_file, args) = args_with_file(r#"{"storage-driver": "x"}"#);
        let error = Settings::resolve(&args, Some("unix:///x")).unwrap_err();
        assert!(format!("{:#}", anyhow::Error::from(error)).contains("`storage-driver`"));
    }

    #[test]
    fn a_named_file_must_exist() {
        let args =
            DaemonArgs { config_file: Some("/nonexistent/x.json".into()), ..DaemonArgs::default() };
        assert!(matches!(
            Settings::resolve(&args, Some("unix:///x")),
            Err(SettingsError::Read { .. })
        ));
    }

    #[test]
    fn the_socket_follows_the_exec_root() {
        let (_file, mut args) = args_with_file("{}");
        args.exec_root = Some("/e".into());
        let settings = Settings::resolve(&args, None).unwrap();
        assert_eq!(settings.socket, PathBuf::from("/e/husk.sock"));
    }
}
