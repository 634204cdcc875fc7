//! tmp
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub(crate) struct ClientError;
