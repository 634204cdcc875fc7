//! A microVM without an engine: a configuration and its descriptors, handed to `husk-vmm` as the
//! engine does, and what it tells of itself.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use husk_tests::{Invocation, Result, pace, programs};
use husk_vmm_config::handover::{FDS_PER_BATCH, Header};
use husk_vmm_config::{
    Accelerator, Disk, Event, FdIndex, JAIL_GID, JAIL_UID, Segment, Statistics, VmConfig, Vsock,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Pid;
use tempfile::TempDir;

/// Guest memory of all benches.
pub const MEMORY_MIB: u32 = 128;

/// The host port on which the test guest calls.
const CONTROL_PORT: u32 = 1000;

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `HUSK_TEST_ACCEL` names; otherwise KVM where it is sound.
///
/// # Errors
/// If it names none, or `husk-vmm probe` fails.
pub fn accelerator() -> Result<Accelerator> {
    match std::env::var("HUSK_TEST_ACCEL").as_deref() {
        Ok("kvm") => return Ok(Accelerator::Kvm),
        Ok("software") => return Ok(Accelerator::Software),
        Ok(other) => anyhow::bail!("HUSK_TEST_ACCEL is {other:?}, not kvm or software"),
        Err(_) => {}
    }
    let mut command = Command::new(programs::folder()?.join("husk-vmm"));
    command.arg("probe");
    let text = Invocation::new(command).output()?;
    let sound = text.contains(r#""kind":"sound""#);
    Ok(if sound { Accelerator::Kvm } else { Accelerator::Software })
}

/// An EROFS image that holds `program` as `/sbin/init`, padded to sectors.
///
/// # Errors
/// If the program or `mkfs.erofs` is missing.
pub fn init_image(folder: &Path, program: &Path) -> Result<PathBuf> {
    let tree = folder.join("tree");
    for name in ["sbin", "dev", "proc", "sys"] {
        fs::create_dir_all(tree.join(name))?;
    }
    fs::copy(program, tree.join("sbin/init"))
        .with_context(|| format!("no {}", program.display()))?;
    let image = folder.join("root.erofs");
    let mut command = Command::new("mkfs.erofs");
    command.arg("--quiet").arg(&image).arg(&tree);
    Invocation::new(command).output()?;
    Ok(image)
}

/// A microVM to be started.
#[derive(Debug)]
pub struct Setting {
    folder: TempDir,
    config: VmConfig,
    fds: Vec<OwnedFd>,
}

impl Setting {
    /// One whose first disk is `image`, on this accelerator.
    ///
    /// # Errors
    /// If the kernel is not built, or a socket cannot be made.
    pub fn new(accelerator: Accelerator, image: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listen = |name| UnixListener::bind(folder.path().join(name)).map(OwnedFd::from);
        let mut fds = vec![
            File::open(programs::folder()?.join("vmlinux"))?.into(),
            listen("vsock.sock")?,
            listen("control.sock")?,
            File::create(folder.path().join("report"))?.into(),
        ];
        let kvm = match accelerator {
            Accelerator::Kvm => {
                fds.push(File::options().read(true).write(true).open("/dev/kvm")?.into());
                Some(FdIndex(4))
            }
            Accelerator::Software => None,
        };
        let config = VmConfig {
            id: "bench".into(),
            accelerator,
            vcpus: 1,
            memory_mib: MEMORY_MIB,
            kernel: FdIndex(0),
            cmdline: vec!["init=/sbin/init".into()],
            disks: Vec::new(),
            vsock: Vsock {
                guest_cid: 3,
                listener: FdIndex(1),
                directory: folder.path().to_owned(),
            },
            control: FdIndex(2),
            report: FdIndex(3),
            emulator: (accelerator == Accelerator::Software).then(emulator).transpose()?,
            kvm,
            nets: Vec::new(),
            pmems: Vec::new(),
            balloon: None,
        };
        let mut setting = Self { folder, config, fds };
        setting.add_disk("root", image, true)?;
        Ok(setting)
    }

    /// Adds a disk of one file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn add_disk(&mut self, serial: &str, path: &Path, read_only: bool) -> Result<()> {
        let file = File::options().read(true).write(!read_only).open(path)?;
        let length = file.metadata()?.len().next_multiple_of(512);
        let fd = FdIndex(u32::try_from(self.fds.len())?);
        self.fds.push(file.into());
        let segments = vec![Segment { fd, length }];
        self.config.disks.push(Disk {
            serial: serial.into(),
            segments,
            read_only,
            rate_limit: None,
        });
        Ok(())
    }

    /// Starts it; the time runs from before the `exec`.
    ///
    /// # Errors
    /// If `husk-vmm` cannot be started, or does not take its configuration.
    pub fn start(self) -> Result<Vmm> {
        let socket = self.folder.path().join(format!("guest-{CONTROL_PORT}.sock"));
        let calls = UnixListener::bind(&socket)?;
        admit_jailed(self.folder.path(), &socket)?;
        let (mut ours, theirs) = UnixStream::pair()?;
        let document = serde_json::to_vec(&self.config)?;
        let header = Header::new(document.len(), self.fds.len())?;
        let began = Instant::now();
        let child = Command::new(programs::folder()?.join("husk-vmm"))
            .arg("run")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start husk-vmm")?;
        ours.write_all(&[&header.encode()[..], &document].concat())?;
        for batch in self.fds.chunks(FDS_PER_BATCH) {
            let batch: Vec<BorrowedFd<'_>> = batch.iter().map(AsFd::as_fd).collect();
            let mut space =
                vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            ensure!(control.push(SendAncillaryMessage::ScmRights(&batch)), "too many descriptors");
            sendmsg(&ours, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
        }
        Ok(Vmm { child, folder: self.folder, calls, began })
    }
}

/// Lets the jailed `husk-vmm` reach the socket, as the engine does.
fn admit_jailed(folder: &Path, socket: &Path) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        chown(folder, None, Some(JAIL_GID))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o710))?;
        chown(socket, Some(JAIL_UID), Some(JAIL_GID))?;
    }
    Ok(())
}

fn emulator() -> Result<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|folder| folder.join("qemu-system-x86_64"));
    found.into_iter().find(|path| path.is_file()).context("no qemu-system-x86_64 on the PATH")
}

/// A running `husk-vmm`; dropping it kills it.
#[derive(Debug)]
pub struct Vmm {
    child: Child,
    folder: TempDir,
    calls: UnixListener,
    began: Instant,
}

impl Vmm {
    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end; the time since before the `exec`.
    ///
    /// # Errors
    /// If the guest did not end by itself.
    pub fn wait(mut self) -> Result<Duration> {
        let mut text = String::new();
        self.child.stderr.take().context("standard error is piped")?.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        let elapsed = self.began.elapsed();
        ensure!(status.success(), "husk-vmm {status}: {text}");
        Ok(elapsed)
    }

    /// Waits until the test guest calls.
    ///
    /// # Errors
    /// If it does not.
    pub fn guest(&self) -> Result<Guest> {
        let timeout = rustix::net::sockopt::Timeout::Recv;
        let patience = pace::patience(PATIENCE);
        rustix::net::sockopt::set_socket_timeout(&self.calls, timeout, Some(patience))?;
        let (stream, _) = self.calls.accept().context("the guest does not call")?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Guest(BufReader::new(stream)))
    }

    /// A connection to a guest port.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn dial(&self, port: u32) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(self.folder.path().join("vsock.sock"))?;
        stream.set_read_timeout(Some(pace::patience(PATIENCE)))?;
        stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
        let expected = format!("OK {port}\n");
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer)?;
        ensure!(answer == expected.as_bytes(), "the guest does not listen on port {port}");
        Ok(stream)
    }

    /// What it counted so far.
    ///
    /// # Errors
    /// If it does not tell.
    pub fn statistics(&self) -> Result<Statistics> {
        let mut stream = UnixStream::connect(self.folder.path().join("control.sock"))?;
        stream.set_read_timeout(Some(pace::patience(PATIENCE)))?;
        stream.write_all(b"{\"command\":\"statistics\"}\n")?;
        for line in BufReader::new(stream).lines() {
            if let Event::Statistics(statistics) = serde_json::from_str(&line?)? {
                return Ok(statistics);
            }
        }
        anyhow::bail!("husk-vmm tells no statistics")
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        // Already reaped after `wait`; both are then harmless.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The test guest, at the other end of its control connection.
#[derive(Debug)]
pub struct Guest(BufReader<UnixStream>);

impl Guest {
    /// Asks and returns the answer.
    ///
    /// # Errors
    /// If it is gone, or cannot do that.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        let answer = answer.trim_end();
        ensure!(!answer.is_empty() && !answer.starts_with("error "), "{line}: {answer:?}");
        Ok(answer.to_owned())
    }
}
