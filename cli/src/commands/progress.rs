//! The progress of a pull: bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use husk_api::models::CreateImageInfo;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::Client;
use crate::exit::Failure;
use crate::multiplex::Output;
use crate::printer;
use crate::reference::ImageName;
use crate::terminal;

/// Bars at once; an image has at most 127 layers, and a daemon that names more gets no more rows.
const BARS_MAX: usize = 128;

/// Pulls an image and shows how it goes on `output`, unless it shall be quiet.
pub(super) async fn pull(
    client: &Client,
    image: &ImageName,
    platform: Option<&str>,
    (output, quiet): (Output, bool),
) -> Result<(), Failure> {
    let mut view = View::new(output, quiet);
    let mut progress = client.pull(image, platform);
    while let Some(step) = progress.next().await {
        view.show(&step?);
    }
    Ok(())
}

enum View {
    Quiet,
    Lines(Output),
    Bars { all: MultiProgress, by_layer: HashMap<String, ProgressBar> },
}

impl View {
    fn new(output: Output, quiet: bool) -> Self {
        let (is_terminal, target) = match output {
            Output::Stdout => (terminal::stdout_is_terminal(), ProgressDrawTarget::stdout()),
            Output::Stderr => (terminal::stderr_is_terminal(), ProgressDrawTarget::stderr()),
        };
        match (quiet, is_terminal) {
            (true, _) => Self::Quiet,
            (false, false) => Self::Lines(output),
            (false, true) => Self::Bars {
                all: MultiProgress::with_draw_target(target),
                by_layer: HashMap::new(),
            },
        }
    }

    fn show(&mut self, step: &CreateImageInfo) {
        let status = step.status.as_deref().unwrap_or_default();
        let detail = step.progress_detail.as_ref();
        let current = detail.and_then(|detail| detail.current).filter(|current| *current > 0);
        match self {
            Self::Quiet => {}
            // Counting makes no sense where lines stay.
            Self::Lines(_) if current.is_some() => {}
            Self::Lines(output) => {
                let line = match step.id.as_deref() {
                    Some(id) => format!("{id}: {status}\n"),
                    None => format!("{status}\n"),
                };
                // A reader that is gone is no reason to stop pulling.
                let _ = printer::write(*output, line.as_bytes());
            }
            Self::Bars { all, by_layer } => {
                let total = detail.and_then(|detail| detail.total);
                show_bar(all, by_layer, step.id.as_deref(), (status, current, total));
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Self::Bars { by_layer, .. } = self {
            for bar in by_layer.values() {
                bar.abandon();
            }
        }
    }
}

fn show_bar(
    all: &MultiProgress,
    by_layer: &mut HashMap<String, ProgressBar>,
    id: Option<&str>,
    (status, current, total): (&str, Option<i64>, Option<i64>),
) {
    let Some(id) = id.filter(|_| !status.starts_with("Pulling from")) else {
        let line = id.map_or_else(|| status.to_owned(), |id| format!("{id}: {status}"));
        let _ = all.println(line);
        return;
    };
    if by_layer.len() >= BARS_MAX && !by_layer.contains_key(id) {
        return;
    }
    let bar = by_layer.entry(id.to_owned()).or_insert_with(|| {
        all.add(ProgressBar::no_length()).with_prefix(id.to_owned()).with_style(plain_style())
    });
    let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    match (bytes(current), bytes(total).filter(|total| *total > 0)) {
        (Some(current), Some(total)) => {
            bar.set_style(bar_style());
            bar.set_length(total);
            bar.set_position(current);
        }
        (Some(current), None) => bar.set_position(current),
        (None, _) => bar.set_style(plain_style()),
    }
    bar.set_message(status.to_owned());
}

fn plain_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}: {msg}").expect("a valid template")
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix}: {msg:12} [{bar:50}] {decimal_bytes}/{decimal_total_bytes}",
    )
    .expect("a valid template")
    .progress_chars("=> ")
}
