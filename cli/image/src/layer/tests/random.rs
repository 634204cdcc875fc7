//! Random layers against a model that is nothing but a map from paths to files.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::stream::{Spec, Stream};
use super::view::view_merged;
use crate::erofs::FileType;
use tar::EntryType;

/// One step of a layer.
#[derive(Clone, Debug)]
enum Step {
    File(String, usize),
    Directory(String, u32),
    Symlink(String),
    Link(String, usize),
    Whiteout(String),
    Opaque(String),
}

/// What the model knows of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Model {
    File { number: usize, length: usize },
    Symlink,
    Directory { mode: u32 },
}

type Paths = BTreeMap<String, Model>;

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", ".c", "-d"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    let lengths = prop::sample::select(vec![0, 1, 100, 2048, 2049, 4096, 5000]);
    prop_oneof![
        4 => (path(), lengths).prop_map(|(path, length)| Step::File(path, length)),
        3 => (path(), prop::sample::select(vec![0o700, 0o755])).prop_map(|(path, mode)| Step::Directory(path, mode)),
        1 => path().prop_map(Step::Symlink),
        2 => (path(), any::<usize>()).prop_map(|(path, pick)| Step::Link(path, pick)),
        2 => path().prop_map(Step::Whiteout),
        1 => path().prop_map(Step::Opaque),
    ]
}

/// Every directory above `path`.
fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

fn remove_below(paths: &mut Paths, path: &str) {
    paths.retain(|other, _| !other.starts_with(&format!("{path}/")));
}

/// A layer by itself, as the model sees it.
#[derive(Default)]
struct Layer {
    stream: Stream,
    own: Paths,
    /// Directories that no entry brought.
    implied: Vec<String>,
    /// Names hidden below.
    hidden: Vec<String>,
    opaque: Vec<String>,
}

/// Applies a layer to the model and to a stream; steps that a layer could not hold are left out.
fn apply(lower: &mut Paths, steps: &[Step], numbers: &mut usize) -> Stream {
    let mut layer = Layer::default();
    for step in steps {
        let (Step::File(path, _)
        | Step::Directory(path, _)
        | Step::Symlink(path)
        | Step::Link(path, _)
        | Step::Whiteout(path)
        | Step::Opaque(path)) = step;
        let mut above = parents(path);
        if matches!(step, Step::Opaque(_)) {
            above.push(path.clone());
        }
        let blocked = |path: &String| {
            matches!(layer.own.get(path), Some(Model::File { .. } | Model::Symlink))
        };
        if above.iter().any(blocked) {
            continue;
        }
        let link = match step {
            Step::Link(_, pick) => match link_target(&layer.own, lower, path, *pick) {
                None => continue,
                some => some,
            },
            _ => None,
        };
        for parent in above {
            let implied = &mut layer.implied;
            layer.own.entry(parent).or_insert_with_key(|parent| {
                implied.push(parent.clone());
                Model::Directory { mode: 0o755 }
            });
        }
        *numbers += 1;
        layer.apply(step, path, *numbers, link);
    }
    put_on(lower, layer.own, &layer.implied, (&layer.hidden, &layer.opaque));
    layer.stream
}

impl Layer {
    /// Applies a step that the layer can hold.
    fn apply(&mut self, step: &Step, path: &str, number: usize, link: Option<(String, Model)>) {
        match step {
            Step::File(_, length) => {
                self.replace(path, Model::File { number, length: *length });
                self.stream.file(path, &content(number, *length));
            }
            Step::Directory(_, mode) => {
                if matches!(self.own.get(path), Some(Model::File { .. } | Model::Symlink)) {
                    self.opaque.push(path.to_owned());
                }
                self.own.insert(path.to_owned(), Model::Directory { mode: *mode });
                self.implied.retain(|other| other != path);
                let spec = Spec::new(EntryType::Directory, path.as_bytes());
                self.stream.entry(&Spec { mode: *mode, ..spec });
            }
            Step::Symlink(_) => {
                self.replace(path, Model::Symlink);
                self.stream.symlink(path, "nowhere");
            }
            Step::Link(..) => {
                let (target, model) = link.expect("looked up by the caller");
                self.replace(path, model);
                self.stream.link(path, &target);
            }
            Step::Whiteout(_) => {
                self.hidden.push(path.to_owned());
                let at = path.rfind('/').map_or(0, |at| at + 1);
                self.stream.file(&format!("{}.wh.{}", &path[..at], &path[at..]), b"");
            }
            Step::Opaque(_) => {
                self.opaque.push(path.to_owned());
                self.stream.file(&format!("{path}/.wh..wh..opq"), b"");
            }
        }
    }

    fn replace(&mut self, path: &str, model: Model) {
        remove_below(&mut self.own, path);
        self.own.insert(path.to_owned(), model);
    }
}

/// A file that a hard link at `path` may refer to: one of the layer's own, or one below that the
/// layer has not touched.
fn link_target(own: &Paths, lower: &Paths, path: &str, pick: usize) -> Option<(String, Model)> {
    let blocked =
        |parent: &String| !matches!(own.get(parent), None | Some(Model::Directory { .. }));
    let untouched = lower
        .iter()
        .filter(|(other, _)| !own.contains_key(*other) && !parents(other).iter().any(blocked));
    let files: Vec<_> = own
        .iter()
        .chain(untouched)
        .filter(|(other, model)| {
            matches!(model, Model::File { .. })
                && *other != path
                && !other.starts_with(&format!("{path}/"))
                && !path.starts_with(&format!("{other}/"))
        })
        .collect();
    let (target, model) = *files.get(pick % files.len().max(1))?;
    Some((target.clone(), model.clone()))
}

/// Puts a layer's own paths on those below.
fn put_on(lower: &mut Paths, own: Paths, implied: &[String], gone: (&[String], &[String])) {
    let directory = |path: &String| matches!(own.get(path), Some(Model::Directory { .. }));
    for path in gone.0 {
        lower.remove(path);
        remove_below(lower, path);
    }
    for path in gone.1.iter().filter(|path| directory(path)) {
        remove_below(lower, path);
    }
    for (path, model) in own {
        let below = lower.get(&path);
        let directory_below = matches!(below, Some(Model::Directory { .. }));
        if matches!(model, Model::Directory { .. }) {
            if directory_below && implied.contains(&path) {
                continue;
            }
        } else {
            remove_below(lower, &path);
        }
        lower.insert(path, model);
    }
}

fn content(number: usize, length: usize) -> Vec<u8> {
    number.to_string().bytes().cycle().take(length).collect()
}

/// Compares the merged image with the model.
fn check(paths: &Paths, streams: &[Stream]) -> Result<(), TestCaseError> {
    let layers: Vec<_> = streams.iter().map(Stream::convert).collect();
    let mut seen = view_merged(&layers);
    seen.remove("/");
    let names = |path: &String| format!("/{path}");
    prop_assert_eq!(
        paths.keys().map(names).collect::<Vec<_>>(),
        seen.keys().cloned().collect::<Vec<_>>()
    );
    for (path, model) in paths {
        let entry = &seen[&names(path)];
        match model {
            Model::File { number, length } => {
                let same =
                    |other: &&Model| matches!(other, Model::File { number: n, .. } if n == number);
                prop_assert_eq!(&entry.content, &content(*number, *length));
                prop_assert_eq!(entry.links as usize, paths.values().filter(same).count());
            }
            Model::Symlink => prop_assert_eq!(entry.kind, FileType::Symlink),
            Model::Directory { mode } => {
                let below = |other: &&(&String, &Model)| {
                    matches!(other.1, Model::Directory { .. })
                        && other.0.rsplit_once('/').is_some_and(|(parent, _)| parent == path)
                };
                prop_assert_eq!(entry.kind, FileType::Directory);
                prop_assert_eq!(u32::from(entry.permissions), *mode);
                prop_assert_eq!(
                    entry.links as usize,
                    2 + paths.iter().filter(|other| below(&other)).count()
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merged_layers_are_what_the_model_says(
        layers in prop::collection::vec(prop::collection::vec(step(), 0..14), 1..4)
    ) {
        let mut paths = Paths::new();
        let mut numbers = 0;
        let streams: Vec<Stream> =
            layers.iter().map(|steps| apply(&mut paths, steps, &mut numbers)).collect();
        check(&paths, &streams)?;
    }
}
