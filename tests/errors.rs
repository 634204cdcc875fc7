//! What goes wrong ends with Docker's exit codes and one line that names the thing and the remedy;
//! nothing half-done stays, and the next try works.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use husk_tests::fixture::{self, Compression, Image, Layer, MediaTypes};
use husk_tests::registry::{Fault, Registry, Scripted};
use husk_tests::{Husk, Result, leaks, pace, programs, require, skip};
use serde_json::json;

/// Bytes that a store without images may hold: databases, locks, the system image.
const EMPTY_STORE_MAX: u64 = 48 << 20;

/// Sum of the allocated sizes of files below a folder.
fn size_of(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let paths = leaks::walk(folder)?;
    Ok(paths
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|file| file.blocks() * 512)
        .sum())
}

#[test]
fn a_registry_that_refuses_is_named_with_the_reason() -> Result<()> {
    require!(pace::without_guests());
    let image = fixture::busybox()?.image;
    let registry = Scripted::start()?.with("app", "latest", &image);
    let husk = Husk::new(&registry)?;
    let app = registry.reference("app:latest");
    let address = registry.address();
    let none = registry.reference("app:none");
    husk.husk(&["pull", &none]).run()?.expect_error(1, &["app:none", "not found"])?;
    husk.husk(&["run", "--rm", &none]).run()?.expect_error(125, &["app:none", "not found"])?;
    husk.husk(&["run", "--rm", "nobody/nothing"]).run()?.expect_error(125, &["nobody/nothing"])?;
    for (status, parts) in
        [(401, &["app", "denied"][..]), (403, &["app", "denied"]), (500, &["500", &address])]
    {
        registry.set_fault("latest", Some(Fault::Status(status)));
        husk.husk(&["pull", &app]).run()?.expect_error(1, parts)?;
        husk.husk(&["run", "--rm", &app]).run()?.expect_error(125, parts)?;
    }
    registry.set_fault("latest", None);
    husk.husk(&["pull", &app]).output()?;
    // Nothing listens on port 1 of loopback.
    let pull = husk.husk(&["run", "--rm", "127.0.0.1:1/app"]).run()?;
    pull.expect_error(125, &["127.0.0.1:1", "reached"])
}

#[test]
fn spoilt_content_is_refused_and_the_next_try_works() -> Result<()> {
    require!(pace::without_guests());
    let image = fixture::busybox()?.image;
    let layer = image.layers[0].digest.clone();
    let registry = Scripted::start()?.with("app", "latest", &image);
    let husk = Husk::new(&registry)?;
    let app = registry.reference("app:latest");
    let short = &layer["sha256:".len()..][..12];
    for (key, fault, parts) in [
        // First: a config that was right once is kept, and not asked for again.
        (image.config.digest.as_str(), Fault::Bytes(Bytes::from_static(b"{}")), &["config"][..]),
        (&layer, Fault::Status(404), &["layer", short]),
        (&layer, Fault::Status(500), &["500"]),
        (&layer, Fault::Truncated(100_000), &["layer"]),
        (&layer, Fault::Bytes(Bytes::from_static(b"other bytes")), &["layer", short]),
        (&layer, Fault::Trailing(Bytes::from_static(b"more bytes")), &["layer", short]),
        ("latest", Fault::Bytes(Bytes::from_static(b"not json")), &["manifest"]),
        ("latest", Fault::Bytes(Bytes::from_static(b"{\"schemaVersion\":1}")), &["manifest"]),
    ] {
        registry.set_fault(key, Some(fault.clone()));
        let pull = husk.husk(&["pull", &app]).deadline(Duration::from_secs(60)).run()?;
        pull.expect_error(1, parts).with_context(|| format!("{fault:?}"))?;
        ensure!(husk.husk(&["images", "-q"]).output()?.is_empty(), "{fault:?} left an image");
        registry.set_fault(key, None);
    }
    let size = size_of(&husk.data_root())?;
    ensure!(size < EMPTY_STORE_MAX, "failed pulls left {size} bytes");
    assert_eq!(husk.husk(&["run", "--rm", &app, "echo", "works"]).output()?, "works\n");
    Ok(())
}

/// The busybox image with its layer's bytes changed, and the digest made to match again.
fn spoilt(
    folder: &Path,
    compression: Compression,
    spoil: impl FnOnce(&mut Vec<u8>),
) -> Result<Image> {
    let mut layer = fixture::busybox_layer(compression, folder)?;
    let mut bytes = fs::read(&layer.path)?;
    spoil(&mut bytes);
    layer.digest = fixture::sha256(&bytes);
    layer.size = bytes.len().try_into()?;
    layer.path = folder.join(layer.digest.trim_start_matches("sha256:"));
    fs::write(&layer.path, bytes)?;
    Ok(Image::new(vec![layer], &json!({"Cmd": ["true"]}), MediaTypes::Oci))
}

#[test]
fn layers_that_do_not_decompress_are_refused() -> Result<()> {
    require!(pace::without_guests());
    let folder = tempfile::tempdir()?;
    let registry = Scripted::start()?;
    let husk = Husk::new(&registry)?;
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0xff);
    };
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let lengthen = |bytes: &mut Vec<u8>| bytes.extend_from_slice(b"garbage behind the end");
    let other = |bytes: &mut Vec<u8>| *bytes = b"neither one nor the other".to_vec();
    let kinds = [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];
    for (name, compression) in kinds {
        registry.add("corrupt", name, &spoilt(folder.path(), compression, flip)?);
        registry.add("cut", name, &spoilt(folder.path(), compression, cut)?);
        registry.add("trailing", name, &spoilt(folder.path(), compression, lengthen)?);
        registry.add("other", name, &spoilt(folder.path(), compression, other)?);
        for spoilt in ["corrupt", "cut", "trailing", "other"] {
            let reference = registry.reference(&format!("{spoilt}:{name}"));
            let run = husk.husk(&["run", "--rm", &reference]).run()?;
            run.expect_error(125, &["layer"]).with_context(|| reference)?;
        }
    }
    // The bytes are right, but not those that the image config names.
    let mut layer = fixture::busybox_layer(Compression::Gzip, folder.path())?;
    layer.diff_id = fixture::sha256(b"something else");
    registry.add("wrong", "latest", &Image::new(vec![layer], &json!({}), MediaTypes::Oci));
    husk.husk(&["pull", &registry.reference("wrong")]).run()?.expect_error(1, &["layer"])?;
    let size = size_of(&husk.data_root())?;
    ensure!(size < EMPTY_STORE_MAX, "failed pulls left {size} bytes");
    Ok(())
}

#[test]
fn documents_and_layers_beyond_all_measure_are_refused_early() -> Result<()> {
    require!(pace::without_guests());
    let folder = tempfile::tempdir()?;
    let registry = Scripted::start()?.with("app", "latest", &fixture::busybox()?.image);
    registry.add("bomb", "latest", &bomb(folder.path())?);
    let husk = Husk::new(&registry)?;
    let daemon = husk.start_daemon()?;
    registry.set_fault("latest", Some(Fault::Spaces(100 << 20)));
    let app = registry.reference("app:latest");
    husk.husk(&["pull", &app]).run()?.expect_error(1, &["manifest"])?;
    registry.set_fault("latest", None);
    let reference = registry.reference("bomb:latest");
    husk.husk(&["pull", &reference]).run()?.expect_error(1, &["layer"])?;
    let status = fs::read_to_string(format!("/proc/{daemon}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.trim().strip_suffix(" kB")).context("VmHWM in kB")?;
    ensure!(peak.trim().parse::<u64>()? < 200 << 10, "the daemon grew to {peak} kB");
    let size = size_of(&husk.data_root())?;
    ensure!(size < EMPTY_STORE_MAX, "the layer left {size} bytes");
    husk.husk(&["pull", &app]).output().map(drop)
}

/// An image whose one layer is a file of 4 GiB of zeros in a few hundred KB.
fn bomb(folder: &Path) -> Result<Image> {
    const SIZE: usize = 4 << 30;
    let path = folder.join("bomb");
    let mut encoder = zstd::Encoder::new(fs::File::create(&path)?, 1)?;
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros")?;
    header.set_size(SIZE.try_into()?);
    header.set_mode(0o644);
    header.set_cksum();
    encoder.write_all(header.as_bytes())?;
    let chunk = vec![0; 16 << 20];
    for _ in 0..SIZE / chunk.len() {
        encoder.write_all(&chunk)?;
    }
    encoder.finish()?;
    let bytes = fs::read(&path)?;
    let layer = Layer {
        digest: fixture::sha256(&bytes),
        diff_id: fixture::sha256(b"never reached"),
        size: bytes.len().try_into()?,
        compression: Compression::Zstd,
        path,
    };
    Ok(Image::new(vec![layer], &json!({}), MediaTypes::Oci))
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() -> Result<()> {
    require!(pace::without_guests());
    require!(skip::without_root());
    require!(skip::without_private_mounts());
    let folder = tempfile::tempdir()?;
    let noise: Vec<u8> =
        (0..96_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let large = {
        let path = folder.path().join("noise");
        fs::write(&path, &noise)?;
        let layer = fixture::program_layer(&path, "noise", folder.path())?;
        fixture::busybox()?.image.with_layer(layer)?
    };
    let registry = Scripted::start()?.with("large", "latest", &large);
    registry.add("small", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    // The store is a small file system that only the daemon sees.
    let mut command = husk.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg(
        "mount -t tmpfs -o size=80m none \"$HUSK_DATA_ROOT\" && exec \"$0\" daemon --ready-fd 1",
    );
    command.arg(husk.program());
    let daemon = husk_tests::Invocation::new(command).deadline(Duration::from_secs(300)).start()?;
    daemon.expect_output("\n")?;
    let reference = registry.reference("large");
    let run = husk.husk(&["run", "--rm", &reference, "true"]).run()?;
    run.expect_error(125, &["no space left", "free"])?;
    let inside = format!("/proc/{}/root{}", daemon.pid(), husk.data_root().display());
    let size = size_of(Path::new(&inside))?;
    ensure!(size < EMPTY_STORE_MAX, "the failed pull left {size} bytes");
    husk.husk(&["pull", &registry.reference("small")]).output()?;
    // With room, the same image works.
    let mut grow = husk.command("nsenter");
    grow.args(["--mount", "--target", &daemon.pid().to_string(), "mount", "-o", "remount,size=2g"]);
    grow.arg(husk.data_root());
    husk_tests::Invocation::new(grow).output()?;
    husk.husk(&["run", "--rm", &reference, "true"]).output()?;
    husk.stop_daemon()?;
    daemon.wait().map(drop)
}

#[test]
fn commands_that_cannot_run_end_as_dockers_do() -> Result<()> {
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    let run = |args: &[&str]| husk.husk(&["run", "--rm"]).args(args).run();
    run(&["busybox", "no-such-program"])?.expect_error(127, &["no-such-program", "not found"])?;
    run(&["busybox", "/etc/not-a-program"])?
        .expect_error(126, &["/etc/not-a-program", "permission"])?;
    run(&["-u", "nobody-here", "busybox", "true"])?.expect_error(125, &["nobody-here"])?;
    assert_eq!(husk.husk(&["ps", "-aq"]).output()?, "", "--rm removes what did not start, too");
    Ok(())
}

#[test]
fn requests_that_make_no_sense_are_refused_before_a_machine_is_made() -> Result<()> {
    require!(pace::without_guests());
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    husk.husk(&["pull", "-q", "busybox"]).output()?;
    let run = |args: &[&str]| husk.husk(&["run", "--rm"]).args(args).run();
    run(&["-m", "4m", "busybox", "true"])?.expect_error(125, &["6MB"])?;
    run(&["-m", "much", "busybox", "true"])?.expect_error(125, &["much"])?;
    run(&["--cpus", "100000", "busybox", "true"])?.expect_error(125, &["cpus"])?;
    run(&["--platform", "a/b/c/d", "busybox", "true"])?.expect_error(125, &["platform"])?;
    run(&["--name", "a b", "busybox", "true"])?.expect_error(125, &["a b", "name"])?;
    run(&["--no-such-flag", "busybox"])?.expect_error(125, &["--no-such-flag"])?;
    run(&["-e", "=1", "busybox", "true"])?.expect_error(125, &["environment"])?;
    run(&["--env-file", "no-such-file", "busybox"])?.expect_error(125, &["no-such-file"])?;
    run(&[])?.expect_code(125)?;
    ensure!(husk.vmms()?.is_empty());
    assert_eq!(husk.husk(&["ps", "-aq"]).output()?, "");
    Ok(())
}

/// A folder that stands in for another, without the names that `hidden` picks.
fn without(folder: &Path, hidden: impl Fn(&str) -> bool, into: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        if !hidden(&entry.file_name().to_string_lossy()) && !target.exists() {
            symlink(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn a_host_without_an_emulator_is_told_what_to_install() -> Result<()> {
    require!(pace::left_out("is about software emulation"));
    let folder = tempfile::tempdir()?;
    for path in std::env::split_paths(&std::env::var_os("PATH").context("PATH is set")?) {
        if path.is_dir() {
            without(&path, |name| name.starts_with("qemu-system"), folder.path())?;
        }
    }
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let path = folder.path().to_string_lossy();
    let husk = Husk::with_mirror(&registry.address(), &[("PATH", &path)])?;
    let run = husk.husk(&["run", "--rm", "--accel", "software", "busybox", "true"]).run()?;
    run.expect_error(125, &["emulator", "qemu-system-x86"])?;
    let doctor = husk.husk(&["doctor"]).run()?;
    ensure!(doctor.out().contains("qemu-system-x86"), "{}", doctor.report());
    Ok(())
}

#[test]
fn a_kvm_that_cannot_be_used_is_never_replaced_in_silence() -> Result<()> {
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let husk = Husk::new(&registry)?;
    let doctor = husk.husk(&["doctor"]).run()?.out();
    let forced = husk.husk(&["run", "--rm", "--accel", "kvm", "busybox", "true"]).run()?;
    if forced.status.success() {
        skip!("the KVM of this machine is sound");
    }
    forced.expect_error(125, &["kvm"])?;
    assert!(doctor.to_lowercase().contains("kvm"), "{doctor}");
    let fallen_back = husk.husk(&["run", "--rm", "busybox", "true"]).run()?.expect_code(0)?;
    let text = fallen_back.err().to_lowercase();
    assert!(text.contains("software") && text.contains("kvm"), "falling back says so: {text}");
    Ok(())
}

#[test]
fn a_missing_kernel_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    without(&programs::folder()?, |name| name == "vmlinux", folder.path())?;
    let registry = Scripted::start()?.with("library/busybox", "latest", &fixture::busybox()?.image);
    let libexec = folder.path().to_string_lossy();
    let husk = Husk::with_mirror(&registry.address(), &[("HUSK_LIBEXEC", &libexec)])?;
    let run = husk.husk(&["run", "--rm", "busybox", "true"]).run()?;
    run.expect_error(125, &["vmlinux"])?;
    symlink(programs::folder()?.join("vmlinux"), folder.path().join("vmlinux"))?;
    husk.husk(&["run", "--rm", "busybox", "true"]).output().map(drop)
}
