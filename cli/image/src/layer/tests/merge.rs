//! Several layers: what hides what.

use super::stream::{Spec, Stream};
use super::view::{View, text, view_merged};
use crate::erofs::FileType;
use crate::layer::{LayerError, merge};
use tar::EntryType;

fn merged(layers: &[&Stream]) -> View {
    view_merged(&layers.iter().map(|stream| stream.convert()).collect::<Vec<_>>())
}

/// A layer made in one expression.
fn layer(build: impl FnOnce(&mut Stream)) -> Stream {
    let mut stream = Stream::default();
    build(&mut stream);
    stream
}

fn paths(view: &View) -> Vec<&str> {
    view.keys().map(String::as_str).collect()
}

#[test]
fn upper_layers_add_and_replace() {
    let large = vec![7; 20_000];
    let lower = layer(|s| {
        s.file("etc/passwd", b"lower").file("etc/group", b"kept").file("bin/tool", &large);
    });
    let upper = layer(|s| {
        s.file("etc/passwd", b"upper").file("etc/new", b"new");
    });
    let seen = merged(&[&lower, &upper]);
    assert_eq!(text(&seen, "/etc/passwd"), "upper");
    assert_eq!(text(&seen, "/etc/group"), "kept");
    assert_eq!(text(&seen, "/etc/new"), "new");
    assert_eq!(seen["/bin/tool"].content, large);
}

#[test]
fn whiteouts_hide_files_and_directories_below_and_leave_no_trace() {
    let lower = layer(|s| {
        s.file("a/file", b"1").file("a/dir/inside", b"2").file("a/stays", b"3");
    });
    let upper = layer(|s| {
        s.file("a/.wh.file", b"").file("a/.wh.dir", b"").file(".wh.never-there", b"");
    });
    assert_eq!(paths(&merged(&[&lower, &upper])), ["/", "/a", "/a/stays"]);
}

#[test]
fn a_whiteout_does_not_hide_what_its_own_layer_brings() {
    let lower = layer(|s| {
        s.file("dir/old", b"1").file("file", b"old");
    });
    for whiteout_first in [true, false] {
        let upper = layer(|s| {
            if whiteout_first {
                s.file(".wh.dir", b"").file(".wh.file", b"");
            }
            s.file("dir/new", b"2").file("file", b"new");
            if !whiteout_first {
                s.file(".wh.dir", b"").file(".wh.file", b"");
            }
        });
        let seen = merged(&[&lower, &upper]);
        assert_eq!(paths(&seen), ["/", "/dir", "/dir/new", "/file"]);
        assert_eq!(text(&seen, "/file"), "new");
    }
}

#[test]
fn an_opaque_directory_hides_all_below_wherever_its_mark_stands() {
    let lower = layer(|s| {
        s.file("dir/old", b"1").file("dir/sub/deep", b"2").file("dir/both", b"3");
    });
    for mark_first in [true, false] {
        let upper = layer(|s| {
            if mark_first {
                s.file("dir/.wh..wh..opq", b"");
            }
            s.file("dir/both", b"4").file("dir/sub/new", b"5");
            if !mark_first {
                s.file("dir/.wh..wh..opq", b"");
            }
        });
        let seen = merged(&[&lower, &upper]);
        assert_eq!(paths(&seen), ["/", "/dir", "/dir/both", "/dir/sub", "/dir/sub/new"]);
        assert_eq!(text(&seen, "/dir/both"), "4");
    }
}

#[test]
fn types_replace_each_other() {
    let lower = layer(|s| {
        s.file("to-dir", b"").file("to-file/inside", b"").symlink("link-to-dir", "to-file");
        s.directory("swapped").file("swapped/inside", b"");
    });
    let upper = layer(|s| {
        s.directory("to-dir").file("to-file", b"now").directory("link-to-dir");
        s.file("swapped", b"").directory("swapped");
    });
    let seen = merged(&[&lower, &upper]);
    assert_eq!(seen["/to-dir"].kind, FileType::Directory);
    assert_eq!(text(&seen, "/to-file"), "now");
    assert_eq!(seen["/link-to-dir"].kind, FileType::Directory);
    assert!(!seen.contains_key("/to-file/inside") && !seen.contains_key("/swapped/inside"));
}

#[test]
fn an_implied_directory_keeps_the_metadata_below() {
    let lower = layer(|s| {
        s.entry(&Spec {
            mode: 0o700,
            owner: (1, 2),
            xattrs: &[("user.x", b"1")],
            ..Spec::new(EntryType::Directory, b"home")
        });
    });
    let upper = layer(|s| {
        s.file("home/file", b"1");
    });
    let seen = merged(&[&lower, &upper]);
    assert_eq!((seen["/home"].permissions, seen["/home"].owner), (0o700, (1, 2)));
    assert_eq!(seen["/home"].xattrs["user.x"], b"1");
    let explicit = layer(|s| {
        s.directory("home");
    });
    let seen = merged(&[&lower, &upper, &explicit]);
    assert_eq!((seen["/home"].permissions, seen["/home"].owner), (0o755, (0, 0)));
    assert_eq!(text(&seen, "/home/file"), "1");
}

#[test]
fn an_implied_directory_goes_where_a_symlink_below_leads() {
    let lower = layer(|s| {
        s.file("usr/lib/libc.so", b"1").symlink("lib", "usr/lib").symlink("odd", "nowhere");
    });
    let upper = layer(|s| {
        s.file("lib/libm.so", b"2").file("odd/file", b"3");
    });
    let seen = merged(&[&lower, &upper]);
    assert_eq!(seen["/lib"].kind, FileType::Symlink);
    assert_eq!(text(&seen, "/usr/lib/libm.so"), "2");
    assert_eq!(text(&seen, "/odd/file"), "3");
}

#[test]
fn hard_links_stay_one_file_within_a_layer_and_into_layers_below() {
    let large = vec![9; 5000];
    let lower = layer(|s| {
        s.file("data/file", &large).link("data/twin", "data/file").file("other", b"x");
    });
    let upper = layer(|s| {
        s.link("third", "data/file").link("fourth", "third").file("data/.wh.twin", b"");
    });
    let seen = merged(&[&lower, &upper]);
    for path in ["/data/file", "/third", "/fourth"] {
        assert_eq!((seen[path].links, seen[path].first.as_str()), (3, "/data/file"), "{path}");
        assert_eq!(seen[path].content, large);
    }
    assert!(!seen.contains_key("/data/twin"));
}

#[test]
fn a_link_keeps_the_file_that_its_layer_hides_or_replaces() {
    let lower = layer(|s| {
        s.file("old-name", b"content");
    });
    let renamed = layer(|s| {
        s.link("new-name", "old-name").file(".wh.old-name", b"");
    });
    let seen = merged(&[&lower, &renamed]);
    assert_eq!(paths(&seen), ["/", "/new-name"]);
    assert_eq!((text(&seen, "/new-name").as_str(), seen["/new-name"].links), ("content", 1));
    let replaced = layer(|s| {
        s.link("new-name", "old-name").file("old-name", b"other");
    });
    let seen = merged(&[&lower, &replaced]);
    assert_eq!(text(&seen, "/new-name"), "content");
    assert_eq!(text(&seen, "/old-name"), "other");
}

#[test]
fn a_link_to_a_later_file_of_its_layer_is_resolved() {
    let only = layer(|s| {
        s.link("early", "late").file("late", b"content");
    });
    let seen = merged(&[&only]);
    assert_eq!((text(&seen, "/early").as_str(), seen["/late"].links), ("content", 2));
}

#[test]
fn a_link_to_nothing_is_refused_by_name() {
    let only = layer(|s| {
        s.link("dir/name", "missing/target");
    });
    let output = tempfile::tempfile().unwrap();
    let error = merge(&[only.convert()], &output).unwrap_err();
    let LayerError::Merge { index: 0, path, source } = error else { panic!("{error:?}") };
    assert_eq!(path, "name");
    assert!(source.to_string().contains("missing/target"), "{source}");
}

#[test]
fn no_layers_make_an_empty_root() {
    let seen = merged(&[]);
    assert_eq!(paths(&seen), ["/"]);
    assert_eq!((seen["/"].permissions, seen["/"].links), (0o755, 2));
}

#[test]
fn a_hundred_layers_need_more_than_one_block_of_device_table() {
    let streams: Vec<Stream> = (0..100)
        .map(|n| {
            layer(|s| {
                s.file(&format!("file-{n}"), &vec![n; 5000]).file("last", &[n]);
            })
        })
        .collect();
    let seen = merged(&streams.iter().collect::<Vec<_>>());
    for n in 0..100 {
        assert_eq!(seen[&format!("/file-{n}")].content, vec![n; 5000]);
    }
    assert_eq!(seen["/last"].content, [99]);
}
