//! Arguments of commands on images, the daemon and the host.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::run::Accelerator;

/// `husk pull`.
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// Set platform if server is multi-platform capable
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) image: String,
}

/// `husk images`.
#[derive(Args, Debug)]
pub(crate) struct ImagesArgs {
    /// Show all images (there are no intermediate ones)
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) reference: Option<String>,
}

/// `husk version` and `husk info`.
#[derive(Args, Debug)]
pub(crate) struct FormatArgs {
    /// Format output: 'json' or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `husk doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// How to print the findings
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: DoctorFormat,
}

/// How `husk doctor` prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// One line a finding, for people.
    Text,
    /// One JSON document.
    Json,
}

/// `husk daemon`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DaemonArgs {
    /// Directory of images, containers, logs and disks (default /var/lib/husk)
    #[arg(long, value_name = "DIR", env = "HUSK_DATA_ROOT", hide_env = true)]
    pub(crate) data_root: Option<PathBuf>,
    /// Directory of sockets and locks (default /run/husk)
    #[arg(long, value_name = "DIR", env = "HUSK_EXEC_ROOT", hide_env = true)]
    pub(crate) exec_root: Option<PathBuf>,
    /// Settings file (default /etc/husk/daemon.json, if there is one)
    #[arg(long, value_name = "FILE", env = "HUSK_CONFIG", hide_env = true)]
    pub(crate) config_file: Option<PathBuf>,
    /// Directory of husk-vmm, husk-agent and vmlinux
    #[arg(long, value_name = "DIR", env = "HUSK_LIBEXEC", hide_env = true)]
    pub(crate) libexec: Option<PathBuf>,
    /// Address asked before the default registry (http://host:port); may be repeated
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub(crate) registry_mirrors: Vec<String>,
    /// Registry (host:port or CIDR) spoken to without TLS verification; may be repeated
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    pub(crate) insecure_registries: Vec<String>,
    /// What runs containers that do not ask for an accelerator
    #[arg(long, value_name = "ACCELERATOR", value_enum)]
    pub(crate) accel: Option<Accelerator>,
    /// How much to log: debug, info, warn or error
    #[arg(short, long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Inherited descriptor on which to announce that the socket answers
    #[arg(long, value_name = "FD", hide = true)]
    pub(crate) ready_fd: Option<u32>,
    /// Leave the starter's session and terminal
    #[arg(long, hide = true)]
    pub(crate) new_session: bool,
}
