//! An engine of a hundred lines: starts `husk-vmm`, hands a configuration over, listens.

#![allow(dead_code, unreachable_pub, reason = "each test program uses another part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use husk_vmm_config::handover::{FDS_PER_BATCH, Header};
use husk_vmm_config::{
    Accelerator, Disk, Event, FdIndex, JAIL_GID, JAIL_UID, KvmStatus, MacAddress, Net, Pmem,
    Segment, VmConfig, Vsock,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

#[expect(unsafe_code, reason = "system calls that no safe wrapper covers")]
pub mod sys;

/// No step of any test takes longer than this, however busy the machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Whether microVMs are slow here: `HUSK_TEST_SLOWNESS` is set and not 1, as in the KVM lab.
pub fn is_slow() -> bool {
    std::env::var("HUSK_TEST_SLOWNESS").is_ok_and(|factor| factor != "1")
}

/// What a real guest needs, or why there is none.
pub struct Means {
    pub kernel: PathBuf,
    pub emulator: PathBuf,
}

/// What the tests run on: HUSK_TEST_ACCEL says `kvm` or `software`; otherwise KVM where it is sound.
pub fn accelerator() -> Accelerator {
    match std::env::var("HUSK_TEST_ACCEL").as_deref() {
        Ok("kvm") => Accelerator::Kvm,
        Ok("software") => Accelerator::Software,
        Ok(other) => panic!("HUSK_TEST_ACCEL is {other:?}, not kvm or software"),
        Err(_) if matches!(husk_vmm::probe().kvm, KvmStatus::Sound { .. }) => Accelerator::Kvm,
        Err(_) => Accelerator::Software,
    }
}

/// Looks for a kernel and an emulator; says what is missing.
pub fn means() -> Option<Means> {
    let Some(kernel) = std::env::var_os("HUSK_KERNEL").map(PathBuf::from) else {
        eprintln!("SKIP: HUSK_KERNEL does not name a guest kernel");
        return None;
    };
    if !kernel.is_file() {
        eprintln!("SKIP: there is no kernel at {}", kernel.display());
        return None;
    }
    if Command::new("mkfs.erofs").arg("--help").output().is_err() {
        eprintln!("SKIP: mkfs.erofs is missing (apt install erofs-utils)");
        return None;
    }
    let Some(emulator) = husk_vmm::probe().emulator else {
        eprintln!("SKIP: qemu-system-x86_64 is missing (apt install qemu-system-x86)");
        return None;
    };
    Some(Means { kernel, emulator })
}

/// A directory for one microVM, its sockets, and a configuration to change.
pub struct Setting {
    pub directory: TempDir,
    pub config: VmConfig,
    fds: Vec<OwnedFd>,
}

impl Setting {
    /// A configuration without disks.
    pub fn new(kernel: &Path, emulator: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listen = |name| OwnedFd::from(UnixListener::bind(directory.path().join(name)).unwrap());
        let fds = vec![
            File::open(kernel).unwrap().into(),
            listen("vsock.sock"),
            listen("control.sock"),
            File::create(directory.path().join("report")).unwrap().into(),
        ];
        let config = VmConfig {
            id: "test".into(),
            accelerator: Accelerator::Software,
            vcpus: 1,
            memory_mib: 128,
            kernel: FdIndex(0),
            cmdline: vec!["init=/guest".into()],
            disks: Vec::new(),
            vsock: Vsock {
                guest_cid: 3,
                listener: FdIndex(1),
                directory: directory.path().to_owned(),
            },
            control: FdIndex(2),
            report: FdIndex(3),
            emulator: Some(emulator.to_owned()),
            kvm: None,
            nets: Vec::new(),
            pmems: Vec::new(),
            balloon: None,
        };
        let mut setting = Self { directory, config, fds };
        setting.run_on(accelerator());
        setting
    }

    /// Chooses another accelerator than the tests run on.
    pub fn run_on(&mut self, accelerator: Accelerator) {
        self.config.accelerator = accelerator;
        self.config.kvm = (accelerator == Accelerator::Kvm).then(|| {
            let device = File::options().read(true).write(true).open("/dev/kvm").unwrap();
            self.fds.push(device.into());
            FdIndex(u32::try_from(self.fds.len() - 1).unwrap())
        });
    }

    /// A configuration whose first disk is a system image with the test guest as init.
    pub fn bootable(means: &Means) -> Self {
        let mut setting = Self::new(&means.kernel, &means.emulator);
        let image = setting.path("system.erofs");
        make_system_image(&setting.path("root"), &image);
        let length = pad_to_sectors(&image);
        setting.add_disk("system", &[(&image, length)], true);
        setting
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Hands another descriptor over in place of that one.
    pub fn replace_fd(&mut self, index: usize, file: File) {
        self.fds[index] = file.into();
    }

    /// A network device on that tap.
    pub fn add_net(&mut self, tap: File, mac: [u8; 6]) -> &mut Net {
        let fd = FdIndex(u32::try_from(self.fds.len()).unwrap());
        self.fds.push(tap.into());
        let (rx_rate_limit, tx_rate_limit) = (None, None);
        let mac = MacAddress(mac);
        self.config.nets.push(Net { tap: fd, mac, mtu: 1500, rx_rate_limit, tx_rate_limit });
        self.config.nets.last_mut().unwrap()
    }

    pub fn add_disk(&mut self, serial: &str, files: &[(&Path, u64)], read_only: bool) {
        let mut segments = Vec::new();
        for &(path, length) in files {
            let file = File::options().read(true).write(!read_only).open(path).unwrap();
            let fd = FdIndex(u32::try_from(self.fds.len()).unwrap());
            self.fds.push(file.into());
            segments.push(Segment { fd, length });
        }
        let serial = serial.into();
        self.config.disks.push(Disk { serial, segments, read_only, rate_limit: None });
    }

    pub fn add_pmem(&mut self, file: &Path, length: u64) {
        self.fds.push(File::open(file).unwrap().into());
        let fd = FdIndex(u32::try_from(self.fds.len() - 1).unwrap());
        self.config.pmems.push(Pmem { fd, length });
    }

    /// Hands everything over.
    pub fn start(self) -> Vmm {
        self.admit();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = spawn(theirs);
        send(&ours, &serde_json::to_vec(&self.config).unwrap(), &self.fds);
        Vmm { child, directory: self.directory }
    }
}

/// As the engine does: a VMM that gives root up still reaches the sockets.
impl Setting {
    fn admit(&self) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = self.directory.path();
        std::os::unix::fs::chown(directory, None, Some(JAIL_GID)).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o710)).unwrap();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("guest-") {
                std::os::unix::fs::chown(&path, Some(JAIL_UID), Some(JAIL_GID)).unwrap();
            }
        }
    }
}

/// Starts `husk-vmm run` on the other end of a socket.
pub fn spawn(stdin: UnixStream) -> Child {
    Command::new(env!("CARGO_BIN_EXE_husk-vmm"))
        .arg("run")
        .stdin(Stdio::from(OwnedFd::from(stdin)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The engine's side of the handover.
pub fn send(mut socket: &UnixStream, document: &[u8], fds: &[OwnedFd]) {
    let header = Header::new(document.len(), fds.len()).unwrap();
    socket.write_all(&header.encode()).unwrap();
    socket.write_all(document).unwrap();
    for batch in fds.chunks(FDS_PER_BATCH) {
        let batch: Vec<BorrowedFd<'_>> = batch.iter().map(AsFd::as_fd).collect();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&batch)));
        sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).unwrap();
    }
}

/// A running `husk-vmm`, killed when the test ends before it does.
pub struct Vmm {
    pub child: Child,
    pub directory: TempDir,
}

/// How a microVM ended.
pub struct End {
    pub status: ExitStatus,
    pub stderr: String,
    /// The last event, from the report file.
    pub report: Event,
}

impl Vmm {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A connection to the control socket.
    pub fn control(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(self.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }

    /// A connection to a guest port, once that answers.
    pub fn dial(&self, port: u32) -> UnixStream {
        let mut stream = UnixStream::connect(self.path("vsock.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
        let mut answer = vec![0; format!("OK {port}\n").len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, format!("OK {port}\n").as_bytes());
        stream
    }

    /// Waits for the end.
    pub fn wait(mut self) -> End {
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        let report = fs::read(self.path("report")).unwrap();
        let report = serde_json::from_slice(&report)
            .unwrap_or_else(|error| panic!("no report ({error}), but: {stderr}"));
        End { status, stderr, report }
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        // It fails only where the test has waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next event.
pub fn next_event(control: &mut BufReader<UnixStream>) -> Event {
    let mut line = String::new();
    control.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// The test guest, at the other end of its control connection.
pub struct Guest(BufReader<UnixStream>);

impl Guest {
    /// Serves a host port and waits until the guest calls there; to be made before the start.
    pub fn listener(setting: &Setting) -> UnixListener {
        UnixListener::bind(setting.path("guest-1000.sock")).unwrap()
    }

    pub fn accept(listener: &UnixListener) -> Self {
        rustix::net::sockopt::set_socket_timeout(
            listener,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )
        .unwrap();
        let (stream, _) = listener.accept().expect("the guest calls");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Asks and returns the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// Asks what has no answer.
    pub fn tell(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

fn make_system_image(root: &Path, image: &Path) {
    for directory in ["dev", "proc", "sys"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    // Beside the test's own program: …/release/deps/boot-… and …/release/examples/guest.
    let own = std::env::current_exe().unwrap();
    let guest = own.parent().unwrap().parent().unwrap().join("examples/guest");
    fs::copy(&guest, root.join("guest")).expect("cargo test builds the examples");
    let output = Command::new("mkfs.erofs").arg(image).arg(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn pad_to_sectors(path: &Path) -> u64 {
    path.metadata().unwrap().len().next_multiple_of(512)
}

/// The children of a process, and theirs.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap());
            parents.extend(children.clone());
            found.extend(children);
        }
    }
    found
}
