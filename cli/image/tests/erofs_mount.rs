//! Layer and metadata images against the tools of others: `fsck.erofs`, and the kernel's own
//! reading of every path over a generated tree of odd cases. What a machine lacks is skipped
//! with a line that says so.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use husk_image::layer::{convert, merge};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// Makes the odd cases below `root`.
fn make_tree(root: &Path) -> io::Result<()> {
    let at = |name: &str| root.join(name);
    for length in [0, 1, 2047, 2048, 2049, 4031, 4032, 4095, 4096, 4097, 8192, 1 << 20] {
        let bytes: Vec<u8> = (0..length).map(|n: usize| (n % 251).to_le_bytes()[0]).collect();
        fs::write(at(&format!("length-{length}")), bytes)?;
    }
    fs::create_dir_all(at("many"))?;
    for number in 0..5000 {
        fs::write(at(&format!("many/entry-{number}")), number.to_string())?;
    }
    fs::create_dir_all(at(&(0..40).map(|n| format!("level-{n}")).collect::<Vec<_>>().join("/")))?;
    fs::create_dir(at("a"))?;
    for (file, content) in [("a/large", vec![7; 9000]), ("a/small", b"small".to_vec())] {
        fs::write(at(file), content)?;
        fs::hard_link(at(file), at(&file.replace('/', "-")))?;
        fs::hard_link(at(file), at("many").join(&file[2..]))?;
    }
    for length in [1, 59, 60, 255, 4031, 4032, 4064, 4065, 4094, 4095] {
        symlink(&"t/".repeat(2048)[..length], at(&format!("symlink-{length}")))?;
    }
    fs::write(at(&"n".repeat(255)), b"")?;
    for name in [b"\xff\xfe".as_slice(), b"line\nbreak", b"!before", b".-between", b"..after"] {
        fs::write(root.join(OsStr::from_bytes(name)), name)?;
    }
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2711), ("none", 0)] {
        fs::write(at(name), name)?;
        fs::set_permissions(at(name), Permissions::from_mode(mode))?;
    }
    let sparse = File::create(at("sparse"))?;
    sparse.write_all_at(b"data", 10 << 20)?;
    sparse.set_len(64 << 20)?;
    File::create(at("hole"))?.set_len(1 << 32)
}

/// Adds what only root can make.
fn make_special(root: &Path) -> io::Result<()> {
    let node = |name, kind, device| {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from(0o640), device)
    };
    node("fifo", FileType::Fifo, 0)?;
    node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3))?;
    node("disk", FileType::BlockDevice, rustix::fs::makedev(259, 70_000))?;
    lchown(root.join("none"), Some(70_000), Some(4_000_000_000))?;
    lchown(root.join("symlink-1"), Some(1000), Some(1000))?;
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::lsetxattr(root.join(name), attribute, value, XattrFlags::empty())
    };
    set("setgid", "security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0")?;
    for number in 0..10 {
        let name = format!("many/entry-{number}");
        set(&name, "user.shared", b"the same for all")?;
        set(&name, "user.own", number.to_string().as_bytes())?;
    }
    set("a", "user.binary", b"\0\n=\xff")?;
    set("a/small", "user.large", &[9; 3000])?;
    set("symlink-59", "trusted.note", b"on a symlink")?;
    for (name, seconds, nanoseconds) in
        [("none", 1_234_567_890, 123_456_789), ("setuid", -2, 500_000_000), ("a", 0, 1)]
    {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// All that a user can see of one path; file content is read only up to 1 GiB.
#[derive(Debug, Eq, PartialEq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    links: u64,
    device: u64,
    size: u64,
    content: u64,
    target: Option<PathBuf>,
    xattrs: BTreeMap<OsString, Vec<u8>>,
}

fn see(path: &Path) -> io::Result<Seen> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    let content = if kind.is_file() && metadata.size() <= 1 << 30 { digest(path)? } else { 0 };
    Ok(Seen {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        links: metadata.nlink(),
        device: if is_device { metadata.rdev() } else { 0 },
        size: if kind.is_dir() { 0 } else { metadata.size() },
        content,
        target: kind.is_symlink().then(|| fs::read_link(path)).transpose()?,
        xattrs: xattrs(path)?,
    })
}

/// FNV-1a of a file's content: enough to tell a difference, with nothing to depend on.
fn digest(path: &Path) -> io::Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hash);
        }
        for byte in &buffer[..length] {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
    let mut names = vec![0_u8; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 1 << 16];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        found.insert(OsStr::from_bytes(name).to_owned(), value);
    }
    Ok(found)
}

/// Every path below `root` with what can be seen of it.
fn see_all(root: &Path) -> io::Result<BTreeMap<PathBuf, Seen>> {
    let mut all = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = root.join(&relative);
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(relative.join(entry?.file_name()));
            }
        }
        all.insert(relative, see(&path)?);
    }
    Ok(all)
}

/// A mount in a namespace of its own, which ends with this value.
struct Mount {
    child: Child,
    root: PathBuf,
}

impl Mount {
    /// Mounts `image` on the directory `target`; the kernel's refusal is an error.
    fn new(image: &Path, target: &Path) -> io::Result<Self> {
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c", r#"mount -t erofs -o loop,ro "$0" "$1" && echo ok && read x"#])
            .args([image, target])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let process = child.id();
        let root = PathBuf::from(format!("/proc/{process}/root{}", target.display()));
        let mount = Self { child, root };
        if line == "ok\n" { Ok(mount) } else { Err(io::Error::other("mount failed")) }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Why a test cannot run here, if it cannot.
fn missing(programs: &[&str]) -> Option<String> {
    let absent = |program: &&&str| {
        let found = Command::new(program).arg("--version").output();
        found.is_err()
    };
    let program = programs.iter().find(absent)?;
    Some(format!("{program} is not installed"))
}

/// The tree as a PAX tar stream.
fn tar_of(tree: &Path) -> io::Result<File> {
    let output = tempfile::tempfile()?;
    let status = Command::new("tar")
        .args(["--format=pax", "--sparse", "--xattrs", "--xattrs-include=*", "-cf", "-", "-C"])
        .arg(tree)
        .arg(".")
        .stdout(output.try_clone()?)
        .status()?;
    if !status.success() {
        return Err(io::Error::other("tar failed"));
    }
    io::Seek::rewind(&mut &output)?;
    Ok(output)
}

/// Converts `tar` and merges the layer by itself: paths of layer, metadata image and both as one.
fn images(tar: &File, directory: &Path) -> io::Result<[PathBuf; 3]> {
    let paths = ["layer", "metadata", "flat"].map(|name| directory.join(name));
    let open = |path| File::options().read(true).write(true).create_new(true).open(path);
    let (layer, metadata, mut flat) = (open(&paths[0])?, open(&paths[1])?, open(&paths[2])?);
    convert(tar, &layer).map_err(io::Error::other)?;
    merge(&[layer], &metadata).map_err(io::Error::other)?;
    for path in &paths[..2] {
        io::copy(&mut File::open(path)?, &mut flat)?;
    }
    flat.flush()?;
    Ok(paths)
}

fn fsck(arguments: &[&OsStr]) -> io::Result<()> {
    let output = Command::new("fsck.erofs").args(arguments).output()?;
    let message = || io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned());
    output.status.success().then_some(()).ok_or_else(message)
}

#[test]
fn fsck_finds_no_fault() {
    if let Some(reason) = missing(&["fsck.erofs", "tar"]) {
        eprintln!("SKIP: {reason}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree).unwrap();
    fs::remove_file(tree.join("hole")).unwrap();
    let [layer, metadata, _] = images(&tar_of(&tree).unwrap(), directory.path()).unwrap();
    fsck(&[layer.as_os_str()]).unwrap();
    let device = OsString::from(format!("--device={}", layer.display()));
    fsck(&[&device, metadata.as_os_str()]).unwrap();
}

#[test]
fn the_kernel_sees_the_tree_as_it_was() {
    let reason = if rustix::process::geteuid().is_root() {
        missing(&["tar", "unshare", "mount"])
    } else {
        Some("mounting needs root".to_owned())
    };
    let supported = fs::read_to_string("/proc/filesystems").is_ok_and(|all| all.contains("erofs"));
    let reason = reason.or((!supported).then(|| "the kernel has no erofs".to_owned()));
    if let Some(reason) = reason {
        eprintln!("SKIP: {reason}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [tree, target] = ["tree", "target"].map(|name| directory.path().join(name));
    fs::create_dir(&tree).unwrap();
    fs::create_dir(&target).unwrap();
    make_tree(&tree).unwrap();
    if let Err(error) = make_special(&tree) {
        eprintln!("SKIP: the file system of {} is too plain: {error}", tree.display());
        return;
    }
    let [layer, _, flat] = images(&tar_of(&tree).unwrap(), directory.path()).unwrap();
    let expected = see_all(&tree).unwrap();
    assert!(expected.len() > 5000);
    for image in [layer, flat] {
        let mount = Mount::new(&image, &target).unwrap();
        let seen = see_all(&mount.root).unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (path, entry) in &expected {
            assert_eq!(&seen[path], entry, "{}", path.display());
        }
    }
}
