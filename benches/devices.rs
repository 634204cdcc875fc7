//! What devices carry: block reads and writes through the guest against the same file on the host,
//! a byte over vsock and back; each with the exits that it took.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use husk_benches::figure;
use husk_benches::machine::{self, Guest, Vmm};
use husk_tests::{Result, pace};

/// Bytes of one request of the guest's program; its kernel may merge or split them.
const PIECE: usize = 128 << 10;

/// Bytes there and back over vsock, of a full run and of a smoke run.
const TRIPS: (usize, usize) = (1000, 200);

/// The port on which the guest echoes.
const ECHO_PORT: u32 = 5000;

fn main() -> Result<()> {
    let accelerator = machine::accelerator()?;
    let folder = tempfile::tempdir()?;
    let program = std::env::current_exe()?.with_file_name("examples").join("guest");
    let image = machine::init_image(folder.path(), &program)?;
    let length = pace::scaled("MiB of a disk", figure::rounds(256, 64), 8) << 20;
    let data = folder.path().join("data");
    fs::write(&data, vec![0xa5; length])?;
    let mut setting = machine::Setting::new(accelerator, &image)?;
    setting.add_disk("data", &data, false)?;
    let vmm = setting.start()?;
    let mut guest = vmm.guest()?;
    figure::remark(&format!(
        "one disk of {} MiB in requests of {} KiB, on {}",
        length >> 20,
        PIECE >> 10,
        accelerator.as_str()
    ));
    block(&vmm, &mut guest, &data, length)?;
    vsock(&vmm, &mut guest)
}

fn block(vmm: &Vmm, guest: &mut Guest, data: &Path, length: usize) -> Result<()> {
    let host = timed(|| on_host(data, length, false))?;
    let through = counted(vmm, || guest.ask(&format!("load vdb {length} {PIECE}")).map(drop))?;
    print("read", length, host, &through);
    let host = timed(|| on_host(data, length, true))?;
    let through = counted(vmm, || guest.ask(&format!("store vdb {length} {PIECE}")).map(drop))?;
    print("write and flush", length, host, &through);
    Ok(())
}

/// What the guest does, on the file itself.
fn on_host(path: &Path, length: usize, write: bool) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut bytes = vec![0x5a; PIECE];
    for place in (0..length).step_by(PIECE) {
        let place = u64::try_from(place)?;
        if write {
            file.write_all_at(&bytes, place)?;
        } else {
            file.read_exact_at(&mut bytes, place)?;
        }
    }
    if write {
        file.sync_all()?;
    }
    Ok(())
}

fn vsock(vmm: &Vmm, guest: &mut Guest) -> Result<()> {
    guest.ask(&format!("listen {ECHO_PORT}"))?;
    let mut stream = vmm.dial(ECHO_PORT)?;
    let trips = figure::rounds(TRIPS.0, TRIPS.1);
    let mut times = Vec::with_capacity(trips);
    let through = counted(vmm, || {
        for _ in 0..trips {
            let mut byte = [7];
            times.push(
                1000.0
                    * timed(|| {
                        stream.write_all(&byte)?;
                        Ok(stream.read_exact(&mut byte)?)
                    })?,
            );
        }
        Ok(())
    })?;
    figure::print("vsock: a byte there and back, median", figure::median(&times), "us", None);
    figure::print("vsock: exits per round trip", through.exits / count(trips), "", None);
    Ok(())
}

/// Time and exits of something that the guest does.
struct Through {
    ms: f64,
    exits: f64,
}

fn counted(vmm: &Vmm, work: impl FnOnce() -> Result<()>) -> Result<Through> {
    let exits = || -> Result<u64> { Ok(vmm.statistics()?.exits.values().sum()) };
    let before = exits()?;
    let ms = timed(work)?;
    let exits = exits()?.checked_sub(before).context("exits are never taken back")?;
    Ok(Through { ms, exits: count(usize::try_from(exits)?) })
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(figure::milliseconds(began.elapsed()))
}

fn print(what: &str, length: usize, host_ms: f64, through: &Through) {
    let rate = |ms: f64| count(length) / 1e3 / ms;
    figure::print(&format!("block: {what}, guest"), rate(through.ms), "MB/s", None);
    figure::print(&format!("block: {what}, guest / host"), host_ms / through.ms, "times", None);
    let requests = count(length / PIECE);
    figure::print(&format!("block: {what}, exits per request"), through.exits / requests, "", None);
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}
