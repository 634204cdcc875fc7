//! What can go wrong with images, as callers see it: one line and a kind.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::platform::PlatformError;
use crate::reference::ReferenceError;

/// The kinds of [`ImageError`], one for each way a caller may want to answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// No such image here, or no such manifest in the registry.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// The text is no image reference.
    InvalidReference,
    /// The text is no platform.
    InvalidPlatform,
    /// The registry cannot be reached, or fails.
    Unavailable,
    /// What came is not what was announced.
    Corrupt,
    /// The disk is full.
    NoSpace,
    /// A mirror or registry in the settings is malformed.
    InvalidSettings,
    /// The image is not made for the platform.
    PlatformMismatch,
    /// Another process holds the store.
    Locked,
    /// Over a limit of [`crate::limits`].
    TooLarge,
    /// A format that Husk does not read.
    Unsupported,
    /// Anything else.
    Internal,
}

/// Why something could not be done with an image. [`report`](Self::report) gives the one line for
/// people: the message and its causes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is no reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The text is no platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A mirror or registry in the settings is malformed.
    #[error("{0}")]
    Settings(String),
    /// No image of that name or ID in the store.
    #[error("No such image: {name}")]
    NoSuchImage {
        /// As asked for, with its tag.
        name: String,
    },
    /// The registry could not be asked, or refused.
    #[error("{message}")]
    Registry {
        /// What was tried, and the remedy.
        message: String,
        /// The kind, from the registry's answer.
        kind: ErrorKind,
    },
    /// What the registry sent is wrong, too large, or of an unknown format.
    #[error("{subject}: {problem}")]
    Content {
        /// The manifest, config or layer, by name and digest.
        subject: String,
        /// What is wrong with it.
        problem: String,
        /// `Corrupt`, `TooLarge` or `Unsupported`.
        kind: ErrorKind,
    },
    /// The image has no variant for the platform.
    #[error("{0}")]
    PlatformMismatch(String),
    /// The file system is full.
    #[error("no space left on device while {attempt}; free space under {}", dir.display())]
    NoSpace {
        /// What was being done.
        attempt: String,
        /// The store.
        dir: PathBuf,
    },
    /// Another process holds the store.
    #[error("image store {} is in use by another daemon; stop it or choose another data root", dir.display())]
    Locked {
        /// The store.
        dir: PathBuf,
    },
    /// A system call failed.
    #[error("failed {attempt}")]
    Io {
        /// What was being done.
        attempt: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The metadata could not be read or written.
    #[error("failed {attempt} in the image database")]
    Database {
        /// What was being done.
        attempt: &'static str,
        /// Why.
        source: Arc<rusqlite::Error>,
    },
    /// The store was written by another version of Husk.
    #[error("image store {} has format {found}, this Husk reads {expected}; choose another data root", dir.display())]
    Format {
        /// The store.
        dir: PathBuf,
        /// Its number.
        found: i64,
        /// Ours.
        expected: i64,
    },
    /// A part of Husk ended unexpectedly.
    #[error("{0}")]
    Internal(String),
}

impl ImageError {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference(_) => ErrorKind::InvalidReference,
            Self::Platform(_) => ErrorKind::InvalidPlatform,
            Self::Settings(_) => ErrorKind::InvalidSettings,
            Self::NoSuchImage { .. } => ErrorKind::NotFound,
            Self::Registry { kind, .. } | Self::Content { kind, .. } => *kind,
            Self::PlatformMismatch(_) => ErrorKind::PlatformMismatch,
            Self::NoSpace { .. } => ErrorKind::NoSpace,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::Io { .. } | Self::Database { .. } | Self::Format { .. } | Self::Internal(_) => {
                ErrorKind::Internal
            }
        }
    }

    /// The message and its causes in one line.
    #[must_use]
    pub fn report(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line.replace(['\n', '\r'], " ")
    }

    /// An I/O error while doing `attempt` ("writing …") in the store at `dir`; a full disk is told
    /// apart.
    pub(crate) fn io(attempt: impl Into<String>, dir: &Path, source: io::Error) -> Self {
        let attempt = attempt.into();
        if is_full(&source) {
            return Self::NoSpace { attempt, dir: dir.to_owned() };
        }
        Self::Io { attempt, source: Arc::new(source) }
    }

    /// A database error while doing `attempt`; a full disk is told apart.
    pub(crate) fn database(attempt: &'static str, dir: &Path, source: rusqlite::Error) -> Self {
        if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            let attempt = format!("{attempt} in the image database");
            return Self::NoSpace { attempt, dir: dir.to_owned() };
        }
        Self::Database { attempt, source: Arc::new(source) }
    }

    /// Content that is not what its descriptor promised.
    pub(crate) fn corrupt(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::content(ErrorKind::Corrupt, subject, problem)
    }

    /// Content over a limit.
    pub(crate) fn too_large(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::content(ErrorKind::TooLarge, subject, problem)
    }

    /// Content of a format that is not read.
    pub(crate) fn unsupported(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::content(ErrorKind::Unsupported, subject, problem)
    }

    fn content(kind: ErrorKind, subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Content { subject: subject.into(), problem: problem.into(), kind }
    }
}

/// Whether the file system or the quota is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
