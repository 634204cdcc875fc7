//! PID 1 of the test guest: does over vsock what the tests ask, one command a line.
//!
//! It dials host port 1000 and answers each line with one line, `error …` for what failed.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::thread;

use rustix::mount::{MountFlags, mount};
use sha2::{Digest, Sha256};

#[path = "guest/net.rs"]
mod net;
#[path = "guest/sys.rs"]
#[expect(unsafe_code, reason = "system calls that no safe wrapper covers")]
mod sys;

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
        "discard" => range(words[1], sys::discard, number(2), number(3)),
        "zero" => range(words[1], sys::zero, number(2), number(3)),
        "read" => read(words[1], number(2), number(3)),
        "load" => load(words[1], number(2), number(3)),
        "store" => store(words[1], number(2), number(3)),
        "entropy" => entropy(),
        "cat" => Ok(fs::read_to_string(words[1])?.trim().replace('\n', "|")),
        "log" => log(),
        "listen" => listen(port(number(1))),
        "dial" => exchange(port(number(1)), number(2)),
        "send" => send(port(number(1)), number(2)),
        "refused" => {
            Ok(dial(port(number(1))).err().map_or("open".into(), |error| error.to_string()))
        }
        "devices" => net::devices(),
        "net" => net::bring_up(words[1]),
        "datagram" => net::datagram(words[1], number(2)),
        "serve" => net::serve(words[1]),
        "push" => net::push(words[1], number(2)),
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

/// Reads so many bytes from the start, in requests of `piece` bytes, for the time that it takes.
fn load(name: &str, count: u64, piece: u64) -> io::Result<String> {
    let file = OpenOptions::new().read(true).open(device(name))?;
    let mut bytes = vec![0; usize::try_from(piece).expect("it fits")];
    for place in (0..count).step_by(bytes.len()) {
        file.read_exact_at(&mut bytes, place)?;
    }
    Ok("ok".into())
}

/// Writes so many bytes from the start, in requests of `piece` bytes, and flushes them.
fn store(name: &str, count: u64, piece: u64) -> io::Result<String> {
    let file = OpenOptions::new().write(true).open(device(name))?;
    let bytes = vec![0x5a; usize::try_from(piece).expect("it fits")];
    for place in (0..count).step_by(bytes.len()) {
        file.write_all_at(&bytes, place)?;
    }
    file.sync_all()?;
    Ok("ok".into())
}

fn range(
    name: &str,
    change: impl FnOnce(&File, u64, u64) -> io::Result<()>,
    offset: u64,
    length: u64,
) -> io::Result<String> {
    let file = OpenOptions::new().read(true).write(true).open(device(name))?;
    change(&file, offset, length)?;
    Ok("ok".into())
}

/// What the kernel has logged so far.
fn log() -> io::Result<String> {
    let mut log = OpenOptions::new().read(true).custom_flags(libc_nonblock()).open("/dev/kmsg")?;
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    while let Ok(count) = log.read(&mut record) {
        let text = String::from_utf8_lossy(&record[..count]).into_owned();
        lines.push(text.trim().replace('\n', " "));
    }
    Ok(lines.join("|"))
}

fn libc_nonblock() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits().try_into().expect("one bit")
}

fn entropy() -> io::Result<String> {
    let mut bytes = [0; 4096];
    File::open("/dev/hwrng")?.read_exact(&mut bytes)?;
    hash(&bytes[..])
}

/// Echoes every connection to that port, each until the other side has sent its last byte.
fn listen(port: u32) -> io::Result<String> {
    let listener = sys::bind(port)?;
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
    sys::connect(HOST_CID, port).map(File::from)
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

/// A microVM ends by rebooting.
fn reboot() -> ! {
    let failed = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    unreachable!("PID 1 may reboot: {failed:?}")
}
