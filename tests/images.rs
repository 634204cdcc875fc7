//! Pulling: every form of reference, platform and layer, and the tree that comes out in a guest.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use husk_tests::fixture::{self, Compression, Image, MediaTypes};
use husk_tests::registry::{Registry, Scripted};
use husk_tests::{Husk, Invocation, Result, pace, programs, require, skip};
use serde_json::json;

#[test]
fn every_form_of_a_reference_names_the_image() -> Result<()> {
    require!(pace::without_guests());
    let image = fixture::busybox()?.image;
    let registry = Scripted::start()?.with("library/busybox", "latest", &image);
    registry.add("library/busybox", "1", &image);
    registry.add("team/app", "v2", &image);
    let husk = Husk::new(&registry)?;
    let digest = &image.manifest.digest;
    let by_digest = format!("busybox@{digest}");
    let address = registry.address();
    for reference in [
        "busybox",
        "busybox:1",
        "library/busybox",
        "docker.io/library/busybox:latest",
        "index.docker.io/library/busybox",
        "team/app:v2",
        &by_digest,
        &format!("{address}/team/app:v2"),
        &format!("{address}/library/busybox:1@{digest}"),
    ] {
        let text = husk.husk(&["pull", reference]).output()?;
        assert!(text.contains(digest.as_str()), "{reference}: {text}");
    }
    let list = husk.husk(&["images"]).output()?;
    for part in ["REPOSITORY", "busybox", "latest", "team/app", "v2", &address] {
        assert!(list.contains(part), "no {part} in {list}");
    }
    let layer = &image.layers[0].digest;
    assert_eq!(registry.gets(layer), 1, "one layer, however many names it has");
    Ok(())
}

#[test]
fn malformed_references_are_refused_before_anything_is_asked() -> Result<()> {
    require!(pace::without_guests());
    let registry = Scripted::start()?;
    let husk = Husk::new(&registry)?;
    for reference in ["UPPER", "a//b", "-a", "a:", "a@sha256:12", "a:tag:tag"] {
        let pull = husk.husk(&["pull", "--", reference]).run()?;
        ensure!(!pull.status.success(), "{}", pull.report());
        pull.expect_error(1, &["invalid reference"])?;
    }
    assert_eq!(registry.gets(""), 0);
    Ok(())
}

#[test]
fn an_index_gives_the_image_of_this_platform() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let layer = fixture::busybox_layer(Compression::Gzip, folder.path())?;
    let ours = Image::new(vec![layer.clone()], &json!({"Cmd": ["echo", "amd64"]}), MediaTypes::Oci);
    let theirs = Image::for_platform(
        vec![layer],
        &json!({"Cmd": ["echo", "arm64"]}),
        MediaTypes::Oci,
        "arm64",
    );
    let registry = Scripted::start()?.with("app", "amd64", &ours).with("app", "arm64", &theirs);
    registry.add_manifest(
        "app",
        "latest",
        &fixture::index(&[("arm64", &theirs), ("amd64", &ours)]),
    );
    registry.add_manifest("app", "foreign", &fixture::index(&[("arm64", &theirs)]));
    let husk = Husk::new(&registry)?;
    let app = registry.reference("app:latest");
    assert_eq!(husk.husk(&["run", "--rm", &app]).output()?, "amd64\n");
    let run = husk.husk(&["run", "--rm", "--platform", "linux/amd64", &app]);
    assert_eq!(run.output()?, "amd64\n");
    let foreign = registry.reference("app:foreign");
    husk.husk(&["run", "--rm", &foreign]).run()?.expect_error(125, &["linux/amd64"])?;
    let run = husk.husk(&["run", "--rm", "--platform", "linux/s390x", &app]).run()?;
    run.expect_error(125, &["linux/s390x"])
}

#[test]
fn every_media_type_and_compression_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let registry = Scripted::start()?;
    let husk = Husk::new(&registry)?;
    for (tag, compression, types) in [
        ("schema2", Compression::Gzip, MediaTypes::Docker),
        ("zstd", Compression::Zstd, MediaTypes::Oci),
        ("plain", Compression::Plain, MediaTypes::Oci),
    ] {
        let layer = fixture::busybox_layer(compression, folder.path())?;
        let image = Image::new(vec![layer], &json!({"Cmd": ["echo", tag]}), types);
        registry.add("kinds", tag, &image);
        let run = husk.husk(&["run", "--rm", &registry.reference(&format!("kinds:{tag}"))]);
        assert_eq!(run.output()?, format!("{tag}\n"));
    }
    Ok(())
}

#[test]
fn pull_policies_are_dockers() -> Result<()> {
    let image = fixture::busybox()?.image;
    let registry = Scripted::start()?.with("app", "latest", &image);
    let husk = Husk::new(&registry)?;
    let app = registry.reference("app:latest");
    let never = husk.husk(&["run", "--rm", "--pull", "never", &app, "true"]).run()?;
    never.expect_error(125, &["no such image", &app])?;
    husk.husk(&["run", "--rm", &app, "true"]).output()?;
    let asked = registry.gets("");
    husk.husk(&["run", "--rm", &app, "true"]).output()?;
    assert_eq!(registry.gets(""), asked, "nothing is asked for an image that is here");
    husk.husk(&["run", "--rm", "--pull", "always", &app, "true"]).output()?;
    assert_eq!(registry.gets(&image.layers[0].digest), 1, "layers that are here are not fetched");
    Ok(())
}

/// Runs `tree-manifest` over a folder, or over the root of a container of an image.
fn host_manifest(folder: &Path) -> Result<String> {
    let mut command = Command::new(programs::tree_manifest()?);
    command.arg(folder);
    Invocation::new(command).deadline(Duration::from_secs(120)).output()
}

fn guest_manifest(image: &Image) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let program = programs::tree_manifest()?;
    let layer = fixture::program_layer(&program, "tree-manifest", folder.path())?;
    let registry = Scripted::start()?.with("tree", "latest", &image.with_layer(layer)?);
    let husk = Husk::new(&registry)?;
    let reference = registry.reference("tree:latest");
    // Attributes in `trusted.` are shown to that capability only.
    let run = husk.husk(&["run", "--rm", "--cap-add", "SYS_ADMIN"]);
    let run = run.args([&reference, "/tree-manifest", "/"]);
    run.deadline(Duration::from_secs(300)).output()
}

/// Fails with the first lines that differ.
fn compare(expected: &str, found: &str) -> Result<()> {
    let by_path = |text: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(path, rest)| (path.to_owned(), rest.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let (expected, found) = (by_path(expected), by_path(found));
    let mut differences = Vec::new();
    for (path, line) in &expected {
        match found.get(path) {
            Some(other) if other == line => {}
            Some(other) => {
                differences.push(format!("{path}\n  expected {line}\n  found    {other}"));
            }
            None => differences.push(format!("{path} is missing")),
        }
    }
    let extra = found.keys().filter(|path| !expected.contains_key(*path));
    differences.extend(extra.map(|path| format!("{path} is too much")));
    let shown: Vec<&str> = differences.iter().take(20).map(String::as_str).collect();
    ensure!(
        differences.is_empty(),
        "{} of {} paths differ:\n{}",
        differences.len(),
        expected.len(),
        shown.join("\n")
    );
    Ok(())
}

#[test]
fn an_odd_tree_is_the_same_in_a_guest() -> Result<()> {
    // The fixture is read over 9p there, which hides capabilities and trusted attributes.
    require!(pace::left_out("the lab does not see every attribute of its fixture"));
    require!(skip::without_root());
    let odd = fixture::odd_tree()?;
    compare(&host_manifest(&odd.expected)?, &guest_manifest(&odd.layout.image)?)
}

#[test]
fn a_debian_tree_is_the_same_in_a_guest() -> Result<()> {
    require!(pace::left_out("a tree of 10,000 files takes too long"));
    require!(skip::without_root());
    require!(skip::without_program("mmdebstrap"));
    let (layout, expected) = fixture::debian_python_tree()?;
    let expected = host_manifest(&expected)?;
    ensure!(expected.lines().count() > 10_000, "only {} paths", expected.lines().count());
    compare(&expected, &guest_manifest(&layout.image)?)
}
