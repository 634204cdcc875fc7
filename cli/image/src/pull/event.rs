//! What a pull tells while it goes on, in the order of Docker's progress lines.

use std::fmt;

use crate::digest::Digest;
use crate::reference::Reference;

/// One step of a pull. `Display` gives the `status` of Docker's progress line, and
/// [`id`](Self::id) the `id` that goes before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PullEvent {
    /// The manifest is there; layers come next.
    Started {
        /// `library/busybox`, or with its registry if that is not the default one.
        repository: String,
        /// The tag, or the digest of a reference without one.
        tag: String,
    },
    /// A layer got further.
    Layer {
        /// The first twelve digits of the compressed layer's digest.
        layer: String,
        /// How far it is.
        progress: LayerProgress,
    },
    /// The digest that the registry has under the name (of the index, if there is one).
    Digest(Digest),
    /// The end: the image is whole and durable.
    Finished {
        /// What was pulled.
        reference: Reference,
        /// False: the image was there already, under this name.
        newer: bool,
    },
}

/// How far a layer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LayerProgress {
    /// Known, and waiting.
    Waiting,
    /// Being fetched and converted at once.
    Downloading {
        /// Compressed bytes so far.
        current_bytes: u64,
        /// Compressed bytes in all.
        total_bytes: u64,
    },
    /// All its bytes have come.
    Downloaded,
    /// Durable.
    Complete,
    /// Was in the store before.
    Exists,
}

impl PullEvent {
    /// The `id` of Docker's progress line: a layer's digest, the tag, or nothing.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Started { tag, .. } => Some(tag),
            Self::Layer { layer, .. } => Some(layer),
            Self::Digest(_) | Self::Finished { .. } => None,
        }
    }
}

impl fmt::Display for PullEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { repository, .. } => write!(formatter, "Pulling from {repository}"),
            Self::Layer { progress, .. } => formatter.write_str(match progress {
                LayerProgress::Waiting => "Pulling fs layer",
                LayerProgress::Downloading { .. } => "Downloading",
                LayerProgress::Downloaded => "Download complete",
                LayerProgress::Complete => "Pull complete",
                LayerProgress::Exists => "Already exists",
            }),
            Self::Digest(digest) => write!(formatter, "Digest: {digest}"),
            Self::Finished { reference, newer: true } => {
                write!(formatter, "Status: Downloaded newer image for {}", reference.familiar())
            }
            Self::Finished { reference, newer: false } => {
                write!(formatter, "Status: Image is up to date for {}", reference.familiar())
            }
        }
    }
}
