//! The container's own side of its preparation: runs in a clone of the agent, in the new
//! namespaces, from the first instruction to the execution of the program.
//!
//! Order matters, and the functions below are called in it: namespaces, root, mounts, devices,
//! files, settings of the kernel, hiding, read-only root; then user, limits, streams, privileges.
//! Nothing of the image runs before the program itself.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use husk_protocol::AgentError;
use oci_spec::runtime::{Linux, Process, Spec};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, fchdir, pivot_root, setsid, umask};

use super::channel;
use super::credential::{CapabilityPlan, assume};
use super::device_node;
use super::error::{Attempt, ContainerError};
use super::limit;
use super::mount_point;
use super::namespace::Namespaces;
use super::passwd::FILE_MAX;
use super::program;
use super::root_dir::RootDir;
use super::stdio::{self, ProcessStdio};
use super::user::{self, Identity};
use crate::mount::{FileSystem, clone_tree};
use crate::sys::mount_attr::set_attributes;
use crate::sys::process::exit;
use crate::sys::{descriptor, signal};

/// The mask of new files' modes, where a spec names none.
const UMASK: u32 = 0o022;

/// What a container's first process is made from.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The runtime spec.
    pub spec: &'a Spec,
    /// Its process.
    pub process: &'a Process,
    /// Who runs it.
    pub user: &'a str,
    /// The mounted root file system, in the agent's tree.
    pub root: &'a Path,
    /// Files that the host provides: where the agent has them, where they belong.
    pub files: &'a [(PathBuf, PathBuf)],
    /// The namespaces that this process is in already, or makes.
    pub namespaces: Namespaces,
    /// Its standard streams.
    pub stdio: &'a ProcessStdio,
    /// The process's end of the channel to the agent.
    pub channel: &'a OwnedFd,
}

impl Setup<'_> {
    /// Prepares the container, waits for the word to start, and becomes the program.
    pub fn run(&self) -> Infallible {
        // What a panic has to say would otherwise be the agent's business, and end the guest.
        std::panic::set_hook(Box::new(|_| {}));
        signal::restore_defaults();
        let result = self.prepare().and_then(|environment| {
            if !channel::wait_for_start(self.channel) {
                exit(1);
            }
            self.execute(&environment)
        });
        let Err(error) = result;
        channel::send_failed(self.channel, &AgentError::from(&error));
        exit(1)
    }

    /// Everything up to the program. Returns the program's environment.
    fn prepare(&self) -> Result<Vec<CString>, ContainerError> {
        umask(Mode::empty());
        setsid().attempt(|| "start a session".to_owned())?;
        let spec = self.spec;
        self.namespaces.enter(spec.hostname().as_deref(), spec.domainname().as_deref())?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .attempt(|| "make all mounts private".to_owned())?;
        let files = self.open_files()?;
        let root = enter_root(self.root)?;
        let terminal = self.furnish(&root, &files)?;
        let identity = self.identity(&root)?;
        let directory = root
            .create_dir_all(self.process.cwd())
            .attempt(|| format!("open the directory {}", self.process.cwd().display()))?;
        fchdir(directory)
            .attempt(|| format!("change to the directory {}", self.process.cwd().display()))?;
        limit::set(self.process.rlimits().as_deref().unwrap_or_default())?;
        self.install_streams(terminal.as_ref().map(|(_, peer)| peer), identity.uid)?;
        let user = self.process.user();
        umask(Mode::from_raw_mode(user.umask().unwrap_or(UMASK)));
        let plan = CapabilityPlan::new(self.process.capabilities().as_ref());
        assume(&identity, &plan, self.process.no_new_privileges().unwrap_or(false))?;
        let controlling = terminal.as_ref().map(|(controlling, _)| controlling.as_fd());
        channel::send_prepared(self.channel, controlling)
            .attempt(|| "tell the agent".to_owned())?;
        environment(self.process, &identity)
    }

    /// Becomes the program.
    fn execute(&self, environment: &[CString]) -> Result<Infallible, ContainerError> {
        let arguments = self.process.args().as_deref().unwrap_or_default();
        let arguments =
            arguments.iter().map(|text| c_string(text.as_str())).collect::<Result<Vec<_>, _>>()?;
        let name = OsStr::from_bytes(arguments.first().map_or(b"", |name| name.as_bytes()));
        let search_path = environment
            .iter()
            .find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="))
            .map(OsStr::from_bytes);
        let path = program::find(name, search_path)?;
        descriptor::close_on_exec_from(3).attempt(|| "close descriptors".to_owned())?;
        Err(program::run(&path, &arguments, environment).into())
    }

    /// A mount of each file that the host provides, taken while the agent's tree is in sight.
    fn open_files(&self) -> Result<Vec<(OwnedFd, &Path)>, ContainerError> {
        let open = |source: &Path| -> io::Result<OwnedFd> {
            clone_tree(openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?, false)
        };
        self.files
            .iter()
            .map(|(source, target)| {
                let tree = open(source).attempt(|| format!("open {}", source.display()))?;
                Ok((tree, target.as_path()))
            })
            .collect()
    }

    /// Mounts, devices, files, hiding. Returns both sides of the terminal, if there is to be one.
    fn furnish(
        &self,
        root: &RootDir,
        files: &[(OwnedFd, &Path)],
    ) -> Result<Option<(OwnedFd, OwnedFd)>, ContainerError> {
        let spec = self.spec;
        let linux = spec.linux().as_ref();
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let terminals = mount_point::mount_all(root, mounts)?;
        let devices = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
        let null = device_node::create_all(root, devices)?;
        let terminal = self.terminal(root, terminals.as_ref())?;
        for (tree, target) in files {
            mount_point::bind_file(root, tree, target)?;
        }
        self.kernel_settings(linux)?;
        let paths = |pick: fn(&Linux) -> &Option<Vec<String>>| {
            linux.and_then(|linux| pick(linux).as_deref()).unwrap_or_default()
        };
        for path in paths(Linux::readonly_paths) {
            mount_point::make_read_only(root, Path::new(path))?;
        }
        for path in paths(Linux::masked_paths) {
            mount_point::mask(root, Path::new(path), &null)?;
        }
        // The working directory is made before the root can no longer be written.
        root.create_dir_all(self.process.cwd())
            .attempt(|| format!("create the directory {}", self.process.cwd().display()))?;
        if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
            root.open(Path::new("/"), OFlags::PATH)
                .and_then(|top| set_attributes(top, MountAttrFlags::MOUNT_ATTR_RDONLY, false))
                .attempt(|| "make the root read-only".to_owned())?;
        }
        Ok(terminal)
    }

    fn terminal(
        &self,
        root: &RootDir,
        terminals: Option<&OwnedFd>,
    ) -> Result<Option<(OwnedFd, OwnedFd)>, ContainerError> {
        let ProcessStdio::Terminal(size) = self.stdio else { return Ok(None) };
        let terminals = terminals.ok_or_else(|| {
            ContainerError::invalid("mounts", "a terminal needs one of type devpts")
        })?;
        let (controlling, peer) =
            stdio::open_terminal(terminals, *size).attempt(|| "open a terminal".to_owned())?;
        let console = clone_tree(&peer, false).attempt(|| "open /dev/console".to_owned())?;
        mount_point::bind_file(root, &console, Path::new("/dev/console"))?;
        Ok(Some((controlling, peer)))
    }

    /// Writes what `/proc` of the container decides: sysctls, and the OOM score.
    fn kernel_settings(&self, linux: Option<&Linux>) -> Result<(), ContainerError> {
        let sysctls = linux.and_then(|linux| linux.sysctl().as_ref());
        let score = self.process.oom_score_adj();
        if sysctls.is_none_or(std::collections::HashMap::is_empty) && score.is_none() {
            return Ok(());
        }
        // A mount of its own, which no image and no read-only path gets in the way of.
        let proc = FileSystem {
            kind: "proc",
            options: &[("source", Some("proc"))],
            attributes: MountAttrFlags::empty(),
        }
        .mount()
        .map_err(|source| ContainerError::Mount { target: "/proc".to_owned(), source })?;
        for (name, value) in sysctls.into_iter().flatten() {
            let path = sysctl_path(name)?;
            write_at(&proc, &path, value)
                .attempt(|| format!("set the sysctl {name} to {value:?}"))?;
        }
        if let Some(score) = score {
            write_at(&proc, "self/oom_score_adj", &score.to_string())
                .attempt(|| format!("set oom_score_adj to {score}"))?;
        }
        Ok(())
    }

    fn identity(&self, root: &RootDir) -> Result<Identity, ContainerError> {
        let passwd = read_small(root, "/etc/passwd")?;
        let group = read_small(root, "/etc/group")?;
        let mut identity = user::resolve(self.user, &passwd, &group)?;
        let more = self.process.user().additional_gids().as_deref().unwrap_or_default();
        for gid in more {
            if !identity.groups.contains(gid) {
                identity.groups.push(*gid);
            }
        }
        Ok(identity)
    }

    fn install_streams(&self, peer: Option<&OwnedFd>, uid: u32) -> Result<(), ContainerError> {
        let result = match (self.stdio, peer) {
            (ProcessStdio::Pipes([stdin, stdout, stderr]), _) => {
                stdio::install([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], uid, false)
            }
            (ProcessStdio::Terminal(_), Some(peer)) => {
                stdio::install([peer.as_fd(), peer.as_fd(), peer.as_fd()], uid, true)
            }
            (ProcessStdio::Terminal(_), None) => Err(io::ErrorKind::NotFound.into()),
        };
        result.attempt(|| "set up the standard streams".to_owned())
    }
}

/// Makes the mounted root file system `/`, and lets go of the agent's tree.
fn enter_root(root: &Path) -> Result<RootDir, ContainerError> {
    let attempt = || format!("make {} the root", root.display());
    chdir(root).attempt(attempt)?;
    pivot_root(".", ".").attempt(attempt)?;
    // The old root now lies on top of the new one, at the same place.
    unmount(".", UnmountFlags::DETACH).attempt(attempt)?;
    chdir("/").attempt(attempt)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, "/", flags, Mode::empty()).attempt(attempt).map(RootDir::new)
}

/// The path below `/proc` of a sysctl, whose name has dots or slashes between its parts.
fn sysctl_path(name: &str) -> Result<String, ContainerError> {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(ContainerError::invalid(format!("sysctl {name:?}"), "it is not a name"));
    }
    Ok(format!("sys/{path}"))
}

fn write_at(directory: impl AsFd, path: &str, value: &str) -> io::Result<()> {
    let file = openat(directory, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    File::from(file).write_all(value.as_bytes())
}

/// Reads a file of the image, which is hostile: a regular one of bounded size. Empty if absent.
fn read_small(root: &RootDir, path: &str) -> Result<Vec<u8>, ContainerError> {
    let attempt = || format!("read {path} of the image");
    let file = match root.open(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        result => File::from(result.attempt(attempt)?),
    };
    if !file.metadata().attempt(attempt)?.is_file() {
        return Err(ContainerError::invalid(format!("image: {path}"), "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes).attempt(attempt)?;
    if bytes.len() > FILE_MAX {
        let reason = format!("it is larger than {FILE_MAX} bytes");
        return Err(ContainerError::invalid(format!("image: {path}"), reason));
    }
    Ok(bytes)
}

/// The spec's variables, and `HOME` from the image if there is none among them.
fn environment(process: &Process, identity: &Identity) -> Result<Vec<CString>, ContainerError> {
    let variables = process.env().as_deref().unwrap_or_default();
    let mut environment =
        variables.iter().map(|text| c_string(text.as_str())).collect::<Result<Vec<_>, _>>()?;
    if !variables.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.push(c_string([b"HOME=", identity.home.as_slice()].concat())?);
    }
    Ok(environment)
}

fn c_string(text: impl Into<Vec<u8>>) -> Result<CString, ContainerError> {
    CString::new(text).map_err(|_| ContainerError::invalid("process", "a text holds a NUL byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names_are_paths_below_proc_sys() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "sys/net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/x").unwrap(), "sys/net/ipv4/conf/eth0.1/x");
        for name in ["", "../x", "a//b", "net..x", "/x"] {
            assert!(sysctl_path(name).is_err(), "{name}");
        }
    }

    #[test]
    fn home_comes_from_the_image_unless_it_is_set() {
        let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), home: b"/root".to_vec() };
        let of = |env: &str| {
            let json = format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"/","env":[{env}]}}"#);
            let process: Process = serde_json::from_str(&json).unwrap();
            environment(&process, &identity).unwrap()
        };
        assert_eq!(of(r#""A=1""#), [c"A=1".to_owned(), c"HOME=/root".to_owned()]);
        assert_eq!(of(r#""HOME=/x""#), [c"HOME=/x".to_owned()]);
    }
}
