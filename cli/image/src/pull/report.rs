//! Sends progress, as often as a reader can use it.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::event::{LayerProgress, PullEvent};
use crate::digest::Digest;

/// Between two `Downloading` of a layer.
const INTERVAL: Duration = Duration::from_millis(100);

/// The events' way out.
pub(super) struct Reporter {
    events: mpsc::Sender<PullEvent>,
}

impl Reporter {
    pub(super) fn new(events: mpsc::Sender<PullEvent>) -> Self {
        Self { events }
    }

    /// Sends; waits for a slow reader, and does without a missing one.
    pub(super) async fn send(&self, event: PullEvent) {
        let _ = self.events.send(event).await;
    }

    /// For one layer, by the digest of its blob.
    pub(super) fn layer(&self, blob: Digest, total_bytes: u64) -> LayerReporter<'_> {
        LayerReporter { reporter: self, layer: blob.short(), total_bytes }
    }
}

/// The events of one layer.
pub(super) struct LayerReporter<'a> {
    reporter: &'a Reporter,
    layer: String,
    total_bytes: u64,
}

impl LayerReporter<'_> {
    pub(super) async fn send(&self, progress: LayerProgress) {
        self.reporter.send(PullEvent::Layer { layer: self.layer.clone(), progress }).await;
    }

    pub(super) fn throttle(&self) -> Throttle<'_> {
        Throttle { layer: self, last: None }
    }
}

/// Leaves out what comes too soon, or finds the channel full.
pub(super) struct Throttle<'a> {
    layer: &'a LayerReporter<'a>,
    last: Option<Instant>,
}

impl Throttle<'_> {
    pub(super) fn bytes(&mut self, current_bytes: u64) {
        let is_soon = self.last.is_some_and(|last| last.elapsed() < INTERVAL);
        if current_bytes == 0 || is_soon {
            return;
        }
        self.last = Some(Instant::now());
        let total_bytes = self.layer.total_bytes;
        let progress = LayerProgress::Downloading { current_bytes, total_bytes };
        let layer = self.layer.layer.clone();
        let _ = self.layer.reporter.events.try_send(PullEvent::Layer { layer, progress });
    }
}
