//! What the stories need of this machine, made before and removed after them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const BUSYBOX: &str = "/bin/busybox";

/// Why the stories cannot run here, if so.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some("not root".to_owned());
    }
    let tools = ["unshare", "losetup", "mkfs.erofs", "mkfs.ext4"];
    for tool in tools {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Some(format!("no {tool}"));
        }
    }
    if !Path::new(BUSYBOX).exists() {
        return Some(format!("no {BUSYBOX}"));
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for kind in ["erofs", "ext4", "overlay", "cgroup2"] {
        if !known.lines().any(|line| line.trim_start_matches("nodev").trim() == kind) {
            return Some(format!("no {kind} in this kernel"));
        }
    }
    if cgroup_mount().is_none() {
        return Some("no cgroup2 mounted".to_owned());
    }
    let unshared = Command::new("unshare").args(["-mpnuif", "true"]).status();
    if !unshared.is_ok_and(|status| status.success()) {
        return Some("namespaces cannot be made".to_owned());
    }
    None
}

/// Images, disks and a cgroup; all removed when dropped.
pub(crate) struct Host {
    directory: tempfile::TempDir,
    disks: Vec<String>,
    cgroup: PathBuf,
}

impl Host {
    /// Makes them.
    pub(crate) fn prepare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let cgroup =
            cgroup_mount().unwrap().join(format!("husk-agent-test-{}", std::process::id()));
        let mut host = Self { directory, disks: Vec::new(), cgroup };
        fs::create_dir(&host.cgroup).unwrap();
        fs::write(path.join("cgroup"), host.cgroup.to_str().unwrap()).unwrap();
        for (serial, make_tree) in
            [("image", plain_tree as fn(&Path)), ("hostile", hostile_tree as fn(&Path))]
        {
            let tree = path.join(format!("{serial}.tree"));
            fs::create_dir(&tree).unwrap();
            make_tree(&tree);
            let image = path.join(format!("{serial}.erofs"));
            run(Command::new("mkfs.erofs").arg("--quiet").arg(&image).arg(&tree));
            host.attach(serial, &image);
        }
        let writable = path.join("writable.ext4");
        fs::File::create(&writable).unwrap().set_len(256 << 20).unwrap();
        host.attach("writable", &writable);
        host
    }

    /// Runs the stories in namespaces of their own. Returns whether all passed.
    pub(crate) fn run_inside(&self, filter: Option<&str>) -> bool {
        Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"])
            .arg("--mount-proc")
            .arg(std::env::current_exe().unwrap())
            .arg("--inside")
            .arg(self.directory.path())
            .args(filter)
            .status()
            .unwrap()
            .success()
    }

    /// Makes a loop device, and shows it as the guest's kernel shows a disk.
    fn attach(&mut self, serial: &str, file: &Path) {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let node = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let name = node.strip_prefix("/dev/").unwrap();
        let entry = self.directory.path().join("disks").join(name);
        self.disks.push(node.clone());
        fs::create_dir_all(&entry).unwrap();
        fs::write(entry.join("serial"), serial).unwrap();
        if serial == "writable" {
            fs::write(self.directory.path().join("writable"), node).unwrap();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for disk in &self.disks {
            run(Command::new("losetup").arg("--detach").arg(disk));
        }
        fs::remove_dir(&self.cgroup).unwrap();
    }
}

fn plain_tree(tree: &Path) {
    for directory in ["bin", "etc", "tmp", "root", "proc", "sys", "dev", "srv", "opt"] {
        fs::create_dir(tree.join(directory)).unwrap();
    }
    fs::copy(BUSYBOX, tree.join("bin/busybox")).unwrap();
    let applets = Command::new(BUSYBOX).arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", tree.join("bin").join(applet)).unwrap();
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n";
    fs::write(tree.join("etc/passwd"), passwd).unwrap();
    fs::write(tree.join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:50:web,root\n").unwrap();
    fs::write(tree.join("opt/plain"), "text").unwrap();
    fs::write(tree.join("opt/orphan"), "#!/no/such/interpreter\n").unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(tree.join("opt/orphan"), mode).unwrap();
}

/// An image that tries to have the agent write, mount or read outside of it.
fn hostile_tree(tree: &Path) {
    plain_tree(tree);
    fs::remove_dir(tree.join("dev")).unwrap();
    symlink("../../../../srv/dev", tree.join("dev")).unwrap();
    symlink("/../../../tmp/escaped", tree.join("etc/hostname")).unwrap();
    fs::remove_file(tree.join("etc/group")).unwrap();
    symlink("../../../../../etc/nobody", tree.join("etc/group")).unwrap();
}

/// Where the hierarchy of cgroup v2 is mounted here.
fn cgroup_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (target, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(target))
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
