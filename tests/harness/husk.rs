//! A Husk of one story's own: data, sockets, temporary files and daemon apart from all others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::command::{Invocation, ended_within};
use crate::registry::Registry;
use crate::{Result, leaks, pace, programs, skip};

/// Names the accelerator of all stories: `kvm`, which never falls back, or `software`.
const ACCELERATOR: &str = "HUSK_TEST_ACCEL";

/// How long a daemon may take to end when told to.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A Husk of one story's own.
#[derive(Debug)]
pub struct Husk {
    /// Held for its removal; `None` once dropped.
    folder: Option<TempDir>,
    programs: PathBuf,
    env: Vec<(String, String)>,
    baseline: leaks::Baseline,
}

impl Husk {
    /// Makes one that pulls from `registry`: as the mirror of the default registry, and by address.
    ///
    /// # Errors
    /// If the programs are not built, or there is no room for temporary files.
    pub fn new(registry: &impl Registry) -> Result<Self> {
        Self::with_mirror(&registry.address(), &[])
    }

    /// Makes one whose default registry is at `mirror`, with these variables in the environment
    /// of all its programs.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_mirror(mirror: &str, env: &[(&str, &str)]) -> Result<Self> {
        let programs = programs::folder()?;
        let baseline = leaks::Baseline::take()?;
        // A short name: a unix socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("husk-t-").tempdir()?;
        for name in ["data", "exec", "tmp", "home"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let accelerator = std::env::var(ACCELERATOR).unwrap_or_else(|_| "auto".to_owned());
        let settings = json!({
            "registry-mirrors": [format!("http://{mirror}")],
            "accelerator": accelerator,
        });
        fs::write(folder.path().join("daemon.json"), settings.to_string())?;
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Self { folder: Some(folder), programs, env: env.collect(), baseline })
    }

    /// Everything of this Husk's lies below this folder; its name marks its processes.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.folder.as_ref().expect("present until dropped").path()
    }

    /// Durable state.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.root().join("data")
    }

    /// The Engine API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root().join("exec/husk.sock")
    }

    /// Its address, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A command in this Husk's environment.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let root = self.root();
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("HUSK_") || text.starts_with("DOCKER_") {
                command.env_remove(name);
            }
        }
        command
            .env("HUSK_HOST", self.host())
            .env("HUSK_DATA_ROOT", root.join("data"))
            .env("HUSK_EXEC_ROOT", root.join("exec"))
            .env("HUSK_LIBEXEC", &self.programs)
            .env("HUSK_CONFIG", root.join("daemon.json"))
            .env("TMPDIR", root.join("tmp"))
            .env("HOME", root.join("home"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(root);
        command
    }

    /// Where the `husk` program is.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.programs.join("husk")
    }

    /// `husk` with these arguments.
    #[must_use]
    pub fn husk(&self, args: &[&str]) -> Invocation {
        Invocation::new(self.command(self.program())).args(args)
    }

    /// The stock `docker` client with these arguments, on this Husk's socket. The daemon must run.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Invocation {
        let mut command = self.command("docker");
        command.arg("--host").arg(self.host());
        command.env("DOCKER_CONFIG", self.root().join("home"));
        Invocation::new(command).args(args)
    }

    /// Starts the daemon, as the first command does, and returns its process ID.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_daemon(&self) -> Result<Pid> {
        self.husk(&["ps"]).output()?;
        self.daemon()?.context("`husk ps` left no daemon running")
    }

    /// The daemon's process ID, if one runs.
    ///
    /// # Errors
    /// If processes cannot be listed.
    pub fn daemon(&self) -> Result<Option<Pid>> {
        let found = leaks::processes(self.root())?;
        let daemon = found.into_iter().find(|process| process.command.contains("husk daemon"));
        Ok(daemon.map(|process| process.pid))
    }

    /// Process IDs of this Husk's VMM processes.
    ///
    /// # Errors
    /// If processes cannot be listed.
    pub fn vmms(&self) -> Result<Vec<Pid>> {
        let mut found = leaks::processes(self.root())?;
        found.retain(|process| process.program == "husk-vmm");
        Ok(found.into_iter().map(|process| process.pid).collect())
    }

    /// Ends the daemon as an administrator would; what runs stays.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop_daemon(&self) -> Result<()> {
        let Some(daemon) = self.daemon()? else { return Ok(()) };
        kill_process(daemon, Signal::TERM)?;
        let deadline = pace::patience(STOP_DEADLINE);
        let ended = ended_within(daemon, deadline)?;
        ensure!(ended, "the daemon did not end within {deadline:?} of SIGTERM");
        Ok(())
    }

    /// Says what the microVMs of this story ran on, as the daemon's log has it.
    ///
    /// # Errors
    /// If one did not run on the accelerator that the stories were to run on.
    fn tell_path(&self) -> Result<()> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let starts = log.lines().filter(|line| line.contains("microVM runs"));
        let used: Vec<_> = starts.filter_map(|line| line.split_once("accelerator=")).collect();
        let count = |name: &str| used.iter().filter(|(_, used)| used.contains(name)).count();
        let (kvm, software) = (count("kvm"), count("software"));
        let thread = std::thread::current();
        let story = thread.name().unwrap_or("a story");
        skip::say(&format!("PATH: {story}: {kvm} microVMs on kvm, {software} on software"));
        if std::env::var(ACCELERATOR).is_ok_and(|name| name == "kvm") && software > 0 {
            bail!("{software} microVMs did not run on kvm");
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.socket().with_added_extension("log")
    }

    /// Removes all containers, ends the daemon, and checks that the machine is as it was found.
    ///
    /// # Errors
    /// If anything fails, or anything is left.
    fn end(&mut self) -> Result<()> {
        if self.daemon()?.is_some() {
            let containers = self.husk(&["ps", "-aq"]).output()?;
            for id in containers.split_whitespace() {
                self.husk(&["rm", "-f", id]).output()?;
            }
        }
        self.stop_daemon()?;
        self.tell_path()?;
        leaks::check(self.root(), &self.baseline)
    }
}

impl Drop for Husk {
    fn drop(&mut self) {
        let ended = self.end();
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        leaks::kill_all(self.root());
        drop(self.folder.take());
        match ended {
            // The story's own failure is the one to see; a second panic would abort all stories.
            _ if std::thread::panicking() => report(&ended, &log),
            Err(_) => {
                report(&ended, &log);
                panic!("the machine is not as it was found: {:#}", ended.expect_err("checked"));
            }
            Ok(()) => {}
        }
    }
}

#[expect(clippy::print_stderr, reason = "what the test runner shows of a failed story")]
fn report(ended: &Result<()>, log: &str) {
    let tail: Vec<&str> = log.lines().rev().take(40).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    eprintln!("end of the story: {ended:?}\nthe daemon's log:\n{}", tail.join("\n"));
}
