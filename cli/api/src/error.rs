//! The closed set of errors that the Engine API answers with.

/// A kind of failure; each has one HTTP status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    /// The request is malformed (400).
    InvalidArgument,
    /// The registry wants other credentials (401).
    Unauthorized,
    /// Not allowed (403).
    Forbidden,
    /// No such thing (404).
    NotFound,
    /// It exists, or its state does not allow the request (409).
    Conflict,
    /// Nothing to do: it is in that state already (304, no body).
    NotModified,
    /// Husk has no such thing, or not yet (501).
    Unsupported,
    /// Something needed does not answer (503).
    Unavailable,
    /// Anything else (500).
    Internal,
}

impl ErrorCode {
    /// The HTTP status that stands for it.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::NotModified => 304,
            Self::InvalidArgument => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Internal => 500,
            Self::Unsupported => 501,
            Self::Unavailable => 503,
        }
    }
}

/// An error as a client sees it: a code and one line that names the thing and the remedy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The kind.
    pub code: ErrorCode,
    /// One line.
    pub message: String,
}

impl ApiError {
    /// Makes an error of `code`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
