//! The harness proves itself: a check that cannot fail, or a fixture that is not what it says,
//! would make every story worthless.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use husk_tests::fixture::{self, Compression, Image, Layer, MediaTypes};
use husk_tests::leaks::{self, Baseline};
use husk_tests::registry::{Distribution, Fault, Registry, Scripted};
use husk_tests::terminal::OnTerminal;
use husk_tests::{Invocation, Result, programs, require, skip};

#[test]
fn a_left_process_socket_and_file_are_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let baseline = Baseline::take()?;
    leaks::check(folder.path(), &baseline)?;

    fs::create_dir_all(folder.path().join("tmp"))?;
    fs::write(folder.path().join("tmp/file"), "")?;
    let listener = UnixListener::bind(folder.path().join("socket"))?;
    let error = leaks::check(folder.path(), &baseline).expect_err("two things are left");
    let text = format!("{error:#}");
    assert!(text.contains("temporary file") && text.contains("/proc/net/unix"), "{text}");
    drop(listener);

    let mut child = Command::new("sleep").arg("1000").env("MARK", folder.path()).spawn()?;
    let found = leaks::processes(folder.path())?;
    assert_eq!(found.len(), 1, "{found:?}");
    leaks::kill_all(folder.path());
    child.wait()?;
    assert!(leaks::processes(folder.path())?.is_empty());
    Ok(())
}

#[test]
fn a_left_mount_is_found() -> Result<()> {
    require!(skip::without_root());
    require!(skip::without_private_mounts());
    let folder = tempfile::tempdir()?;
    // In a namespace of another process, where a careless check would not look.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount -t tmpfs none \"$0\" && cd / && exec env -i /bin/sh -c 'echo ready; exec /bin/sleep 1000'");
    command.arg(folder.path());
    let running = Invocation::new(command).start()?;
    running.expect_output("ready")?;
    let found = leaks::processes(folder.path())?;
    assert_eq!(found.len(), 1, "{found:?}");
    leaks::kill_all(folder.path());
    Ok(())
}

#[test]
fn a_program_that_does_not_end_fails_its_story() {
    let mut command = Command::new("sleep");
    command.arg("1000");
    let started = std::time::Instant::now();
    let result = Invocation::new(command).deadline(Duration::from_millis(200)).run();
    assert!(format!("{:#}", result.expect_err("too late")).contains("no end after"));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_terminal_has_a_size_and_takes_control_characters() -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'echo caught; exit 7' INT; stty size; read line; echo \"got $line\"; sleep 1000 & wait"]);
    let mut terminal = OnTerminal::start(&command, 40, 100)?;
    let limit = Duration::from_secs(10);
    terminal.expect("40 100", limit)?;
    terminal.type_in(b"hello\n")?;
    terminal.expect("got hello", limit)?;
    // A shell that is told a moment before it waits goes on to wait: so tell it again.
    for attempt in 1.. {
        terminal.type_in(b"\x03")?;
        match terminal.expect("caught", Duration::from_secs(1)) {
            Err(error) if attempt == 10 => return Err(error),
            Err(_) => {}
            Ok(()) => break,
        }
    }
    assert_eq!(terminal.wait(limit)?.0.code(), Some(7));
    Ok(())
}

/// What `skopeo` says of an image: an independent client accepts what the registry serves.
fn pulled_by_skopeo(reference: &str) -> Result<husk_tests::Finished> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
    command.arg(format!("docker://{reference}")).arg(format!("dir:{}", folder.path().display()));
    Invocation::new(command).run()
}

#[test]
fn every_kind_of_image_is_one_to_other_clients_too() -> Result<()> {
    require!(skip::without_program("skopeo"));
    let folder = tempfile::tempdir()?;
    let registry = Scripted::start()?;
    for (tag, compression, types) in [
        ("gzip", Compression::Gzip, MediaTypes::Oci),
        ("zstd", Compression::Zstd, MediaTypes::Oci),
        ("plain", Compression::Plain, MediaTypes::Oci),
        ("schema2", Compression::Gzip, MediaTypes::Docker),
    ] {
        let layer = fixture::busybox_layer(compression, folder.path())?;
        registry.add("kinds", tag, &Image::new(vec![layer], &serde_json::json!({}), types));
        pulled_by_skopeo(&registry.reference(&format!("kinds:{tag}")))?.succeeded()?;
    }
    let image = fixture::busybox()?.image;
    registry.add("kinds", "amd64", &image);
    registry.add_manifest("kinds", "index", &fixture::index(&[("amd64", &image)]));
    pulled_by_skopeo(&registry.reference("kinds:index"))?.succeeded()?;
    let pulls = registry.gets(&image.layers[0].digest);
    assert_eq!(pulls, 3, "gzip, schema2 and index share the layer; every pull is counted");
    Ok(())
}

#[test]
fn the_misbehaving_registry_misbehaves() -> Result<()> {
    require!(skip::without_program("skopeo"));
    let image = fixture::busybox()?.image;
    let layer = image.layers[0].digest.clone();
    let registry = Scripted::start()?.with("app", "latest", &image);
    let reference = registry.reference("app:latest");
    let faults = [
        ("latest", Fault::Status(404), "manifest unknown"),
        (layer.as_str(), Fault::Status(401), "auth"),
        (layer.as_str(), Fault::Truncated(1000), "EOF"),
        (layer.as_str(), Fault::Bytes(Bytes::from_static(b"other")), "digest"),
        (layer.as_str(), Fault::Trailing(Bytes::from_static(b"more")), "digest"),
    ];
    for (key, fault, part) in faults {
        registry.set_fault(key, Some(fault.clone()));
        let finished = pulled_by_skopeo(&reference)?;
        let text = finished.err().to_lowercase();
        assert!(!finished.status.success(), "{fault:?} went unnoticed");
        assert!(text.contains(&part.to_lowercase()), "{fault:?}: {text}");
        registry.set_fault(key, None);
    }
    pulled_by_skopeo(&reference)?.succeeded()?;
    Ok(())
}

#[test]
fn the_real_registry_serves_the_images_of_the_stories() -> Result<()> {
    require!(skip::without_root());
    for program in ["docker-registry", "skopeo", "mmdebstrap", "setpriv"] {
        require!(skip::without_program(program));
    }
    let registry = Distribution::start()?;
    for name in ["library/busybox:latest", "library/busybox:1", "library/debian:python"] {
        pulled_by_skopeo(&registry.reference(name))?.succeeded()?;
    }
    Ok(())
}

#[test]
fn the_manifest_of_a_tree_tells_all_that_is_odd() -> Result<()> {
    require!(skip::without_root());
    let odd = fixture::odd_tree()?;
    let mut command = Command::new(programs::tree_manifest()?);
    command.arg(&odd.expected);
    let text = Invocation::new(command).output()?;
    let lines: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(' ')).collect();
    assert!(lines.len() > 4100, "{} lines", lines.len());
    for (path, part) in [
        ("links/third", "nlink=3 size=5000 same-as=links/a/fourth"),
        ("kinds/large-minor", "rdev=10:1048575"),
        ("kinds/large-major", "rdev=4095:255"),
        ("attributes/mode-7777", "mode=0107777"),
        ("attributes/owner-2000000000", "owner=2000000000:2000000001"),
        ("attributes/time-nanoseconds", "mtime=1234567890.123456789"),
        ("attributes/time-4294967296", "mtime=4294967296.000000000"),
        ("attributes/capability", "security.capability=0100000200040000"),
        ("attributes/xattr-large", "user.large="),
        ("attributes", "mode=0040711"),
        ("names/latin-\\xe9", "size=13"),
        ("sizes/mostly-zeros", "size=3145728"),
        ("replaced", "size=25"),
        ("gone", "size=10"),
        ("opaque/new", "size=3"),
        ("merged/changed", "size=31"),
    ] {
        let line = lines.get(path).unwrap_or_else(|| panic!("no line for {path}"));
        assert!(line.contains(part), "{path}: {line}");
    }
    for path in ["opaque/old", "hidden/deep", "merged/gone", "links/b/second", "replaced/inside"] {
        assert!(!lines.contains_key(path), "{path} is hidden");
    }
    Ok(())
}

#[test]
fn layers_know_both_of_their_digests() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tar = vec![0; 1024];
    let plain = Layer::from_tar(&tar, Compression::Plain, folder.path())?;
    let gzip = Layer::from_tar(&tar, Compression::Gzip, folder.path())?;
    assert_eq!(plain.digest, fixture::sha256(&tar));
    assert_eq!((&plain.diff_id, &plain.digest), (&gzip.diff_id, &plain.diff_id));
    assert_eq!(gzip.digest, fixture::sha256(&fs::read(&gzip.path)?));
    Ok(())
}
