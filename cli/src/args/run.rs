//! Arguments of `husk run` and `husk create`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::environment::{self, Lookup};
use super::host_config::{self, HostConfigError};
use super::quantity;
use husk_api::models::ContainerCreateBody;

/// `husk run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Proxy received signals to the process
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) create: CreateArgs,
}

/// `husk create`, and most of `husk run`.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Automatically remove the container when it exits
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) rm: bool,
    /// Assign a name to the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Container host name
    #[arg(short = 'h', long)]
    pub(crate) hostname: Option<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) annotation: Vec<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Pull image before running
    #[arg(long, value_name = "POLICY", default_value = "missing")]
    pub(crate) pull: PullPolicy,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long)]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// The image, the command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE")]
    pub(crate) words: Vec<String>,
}

/// What the container may use and do.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LimitArgs {
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = quantity::bytes)]
    pub(crate) memory: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL", value_parser = quantity::nano_cpus)]
    pub(crate) cpus: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// How to run the microVM: with hardware, in software, or as this host can
    #[arg(long, value_name = "ACCELERATOR")]
    pub(crate) accel: Option<Accelerator>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Give extended privileges to this container
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = quantity::bytes)]
    pub(crate) shm_size: Option<i64>,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Connect a container to a network
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub(crate) network: Option<String>,
}

/// `--pull`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// Before every run.
    Always,
    /// If it is not there.
    Missing,
    /// Not at all.
    Never,
}

/// `--accel`, and `accelerator` in the settings file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accelerator {
    /// Hardware if it is sound, else software.
    Auto,
    /// Hardware only.
    Kvm,
    /// Software only.
    Software,
}

impl CreateArgs {
    /// The image's name.
    pub(crate) fn image(&self) -> &str {
        &self.words[0]
    }

    /// The Engine API's body; `attached` are the streams that the client takes.
    ///
    /// # Errors
    /// For what cannot be read: variables, ulimits, networks, …
    pub(crate) fn body(
        &self,
        attached: bool,
        lookup: Lookup<'_>,
    ) -> Result<ContainerCreateBody, HostConfigError> {
        let command = &self.words[1..];
        Ok(ContainerCreateBody {
            image: Some(self.image().to_owned()),
            cmd: (!command.is_empty()).then(|| command.to_vec()),
            // An empty entrypoint resets the image's, which one empty string says.
            entrypoint: self.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
            env: Some(environment::collect(&self.env_file, &self.env, lookup)?),
            working_dir: self.workdir.clone(),
            user: self.user.clone(),
            hostname: self.hostname.clone(),
            labels: Some(environment::pairs(&self.label)),
            stop_signal: self.stop_signal.clone(),
            tty: Some(self.tty),
            open_stdin: Some(self.interactive),
            stdin_once: Some(self.interactive && attached),
            attach_stdin: Some(self.interactive && attached),
            attach_stdout: Some(attached),
            attach_stderr: Some(attached),
            host_config: Some(host_config::of(&self.limits, self.rm, &self.annotation)?),
            ..ContainerCreateBody::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command, parse};
    use super::*;

    fn run(line: &str) -> RunArgs {
        let words = std::iter::once("husk").chain(line.split(' ')).map(Into::into);
        match parse(words) {
            Ok(Cli { command: Command::Run(run), .. }) => run,
            other => panic!("{other:?}"),
        }
    }

    fn body(line: &str) -> ContainerCreateBody {
        run(line).create.body(true, &|_| None).unwrap()
    }

    #[test]
    fn what_follows_the_image_belongs_to_the_command() {
        let args = run("run --rm busybox ls --rm -l -H x");
        assert!(args.create.rm);
        assert_eq!(args.create.image(), "busybox");
        assert_eq!(args.create.words[1..], ["ls", "--rm", "-l", "-H", "x"]);
        assert_eq!(run("run busybox --help").create.words, ["busybox", "--help"]);
    }

    #[test]
    fn short_flags_combine() {
        let args = run("run -it busybox");
        assert!(args.create.interactive && args.create.tty && args.sig_proxy);
        let body = body("run -it busybox");
        assert_eq!(
            (body.tty, body.open_stdin, body.stdin_once),
            (Some(true), Some(true), Some(true))
        );
    }

    #[test]
    fn flags_may_have_a_truth_value() {
        assert!(!run("run --rm=false --sig-proxy=false b").sig_proxy);
        assert!(!run("run --rm=false b").create.rm);
    }

    #[test]
    fn hostname_has_the_short_form_h() {
        assert_eq!(body("run -h box busybox").hostname.as_deref(), Some("box"));
    }

    #[test]
    fn limits_become_the_host_config() {
        let host =
            body("run -m 64m --cpus 0.5 --accel software --cap-drop ALL b").host_config.unwrap();
        assert_eq!(host.memory, Some(64 << 20));
        assert_eq!(host.nano_cpus, Some(500_000_000));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.annotations.unwrap()["husk.accel"], "software");
    }

    #[test]
    fn a_bad_size_is_refused() {
        let words = ["husk", "run", "-m", "4x", "b"].map(Into::into);
        let refused = parse(words).unwrap_err();
        assert!(refused.failure().message.contains("invalid size: '4x'"));
    }
}
