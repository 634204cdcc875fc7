//! PID 1 of the test guest: does over vsock what the tests ask, one command a line.
//!
//! It dials host port 1000 and answers each line with one line, `error …` for what failed.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;

use rustix::mount::{MountFlags, mount};
use sha2::{Digest, Sha256};

const CONTROL_PORT: u32 = 1000;
const HOST_CID: u32 = 2;
const PIECE: usize = 64 << 10;

fn main() {
    let none = MountFlags::empty();
    mount("proc", "/proc", "proc", none, None).expect("proc");
    mount("sysfs", "/sys", "sysfs", none, None).expect("sysfs");
    // Where it is mounted already, that is as good.
    let _ = mount("devtmpfs", "/dev", "devtmpfs", none, None);
    let mut control = dial(CONTROL_PORT).expect("the test listens");
    let mut lines = BufReader::new(control.try_clone().expect("a second descriptor"));
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).expect("the test stays") == 0 {
            reboot();
        }
        let answer = obey(line.trim()).unwrap_or_else(|error| format!("error {error}"));
        control.write_all(format!("{answer}\n").as_bytes()).expect("the test reads");
    }
}

fn obey(line: &str) -> io::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |index: usize| words[index].parse::<u64>().expect("the test sends numbers");
    match words[0] {
        "disks" => disks(),
        "hash" => hash(File::open(device(words[1]))?),
        "write" => write(words[1], number(2), number(3), number(4)),
        "discard" => range(words[1], 0x1277, number(2), number(3)),
        "zero" => range(words[1], 0x127f, number(2), number(3)),
        "read" => read(words[1], number(2), number(3)),
        "entropy" => entropy(),
        "listen" => listen(port(number(1))),
        "dial" => exchange(port(number(1)), number(2)),
        "send" => send(port(number(1)), number(2)),
        "refused" => {
            Ok(dial(port(number(1))).err().map_or("open".into(), |error| error.to_string()))
        }
        "print" => {
            writeln!(io::stdout(), "{}", words[1..].join(" "))?;
            Ok("ok".into())
        }
        // The end of PID 1 is the end of the kernel.
        "panic" => panic!("as asked"),
        "reboot" => reboot(),
        other => Err(io::Error::other(format!("unknown command {other}"))),
    }
}

fn disks() -> io::Result<String> {
    let mut names: Vec<_> = fs::read_dir("/sys/block")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("vd"))
        .collect();
    names.sort();
    let fact = |name: &str, fact: &str| {
        fs::read_to_string(format!("/sys/block/{name}/{fact}")).map(|text| text.trim().to_owned())
    };
    let mut list = Vec::new();
    for name in names {
        let (serial, ro, size) = (fact(&name, "serial")?, fact(&name, "ro")?, fact(&name, "size")?);
        list.push(format!("{name}:{serial}:{ro}:{size}"));
    }
    Ok(list.join(" "))
}

fn hash(mut source: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut bytes = vec![0; PIECE];
    loop {
        match source.read(&mut bytes)? {
            0 => break,
            count => hash.update(&bytes[..count]),
        }
    }
    Ok(hex(&hash.finalize()))
}

fn write(name: &str, offset: u64, byte: u64, count: u64) -> io::Result<String> {
    let file = OpenOptions::new().read(true).write(true).open(device(name))?;
    let byte = u8::try_from(byte).expect("the test sends bytes");
    file.write_all_at(&vec![byte; usize::try_from(count).expect("it fits")], offset)?;
    file.sync_all()?;
    Ok("ok".into())
}

fn read(name: &str, offset: u64, count: u64) -> io::Result<String> {
    let mut bytes = vec![0; usize::try_from(count).expect("it fits")];
    File::open(device(name))?.read_exact_at(&mut bytes, offset)?;
    hash(&bytes[..])
}

#[expect(unsafe_code, reason = "an ioctl that no safe wrapper covers")]
fn range(name: &str, request: libc::Ioctl, offset: u64, length: u64) -> io::Result<String> {
    let file = OpenOptions::new().read(true).write(true).open(device(name))?;
    let range = [offset, length];
    // SAFETY: BLKDISCARD and BLKZEROOUT read two 64-bit numbers, which `range` holds.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), request, range.as_ptr()) })?;
    Ok("ok".into())
}

fn entropy() -> io::Result<String> {
    let mut bytes = [0; 4096];
    File::open("/dev/hwrng")?.read_exact(&mut bytes)?;
    hash(&bytes[..])
}

/// Echoes every connection to that port, each until the other side has sent its last byte.
fn listen(port: u32) -> io::Result<String> {
    let listener = socket()?;
    address(port, libc::VMADDR_CID_ANY, |address, length| {
        #[expect(unsafe_code, reason = "vsock is not in the standard library")]
        // SAFETY: the address is a complete sockaddr_vm of that length.
        checked(unsafe { libc::bind(listener.as_raw_fd(), address, length) })
    })?;
    rustix::net::listen(&listener, 16)?;
    thread::spawn(move || {
        while let Ok(stream) = rustix::net::accept(&listener) {
            thread::spawn(move || echo(File::from(stream)));
        }
    });
    Ok("ok".into())
}

fn echo(mut stream: File) -> io::Result<()> {
    let mut bytes = vec![0; PIECE];
    loop {
        match stream.read(&mut bytes)? {
            0 => break,
            count => stream.write_all(&bytes[..count])?,
        }
    }
    Ok(rustix::net::shutdown(&stream, rustix::net::Shutdown::Write)?)
}

/// Sends so many bytes, closes that half, and hashes what comes back.
fn exchange(port: u32, count: u64) -> io::Result<String> {
    let stream = dial(port)?;
    let mut sender = stream.try_clone()?;
    let writer = thread::spawn(move || {
        write_pattern(&mut sender, count)?;
        io::Result::Ok(rustix::net::shutdown(&sender, rustix::net::Shutdown::Write)?)
    });
    let hash = hash(stream)?;
    writer.join().expect("it does not panic")?;
    Ok(hash)
}

/// Sends so many bytes and closes at once.
fn send(port: u32, count: u64) -> io::Result<String> {
    write_pattern(&mut dial(port)?, count)?;
    Ok("ok".into())
}

fn write_pattern(sink: &mut impl Write, count: u64) -> io::Result<()> {
    let piece: Vec<u8> = (0..=250).cycle().take(PIECE).collect();
    let mut left = usize::try_from(count).expect("it fits");
    while left > 0 {
        let length = left.min(PIECE);
        sink.write_all(&piece[..length])?;
        left -= length;
    }
    Ok(())
}

fn dial(port: u32) -> io::Result<File> {
    let socket = socket()?;
    address(port, HOST_CID, |address, length| {
        #[expect(unsafe_code, reason = "vsock is not in the standard library")]
        // SAFETY: the address is a complete sockaddr_vm of that length.
        checked(unsafe { libc::connect(socket.as_raw_fd(), address, length) })
    })?;
    Ok(File::from(socket))
}

#[expect(unsafe_code, reason = "vsock is not in the standard library")]
fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no preconditions.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    checked(fd)?;
    // SAFETY: it is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(unsafe_code, reason = "vsock is not in the standard library")]
fn address<T>(port: u32, cid: u32, call: impl FnOnce(*const libc::sockaddr, u32) -> T) -> T {
    // SAFETY: all-zero bytes are a valid sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).expect("40 fits");
    address.svm_port = port;
    address.svm_cid = cid;
    let length = u32::try_from(size_of_val(&address)).expect("16 fits");
    call((&raw const address).cast(), length)
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn device(name: &str) -> String {
    format!("/dev/{name}")
}

fn port(number: u64) -> u32 {
    u32::try_from(number).expect("the test sends ports")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("strings grow");
        text
    })
}

#[expect(unsafe_code, reason = "reboot is not in the standard library")]
fn reboot() -> ! {
    // SAFETY: no preconditions; nothing is left to be written.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    unreachable!("a microVM ends by rebooting")
}
