//! The registry client: OCI distribution-spec, pull side, on oci-client's own HTTP layer.
//!
//! oci-client buffers manifests, tokens and error bodies whole, keeps one set of credentials per
//! registry, and hides `Retry-After`; so requests are made here, and its document types are used.
//! Every body is bounded while it is read. Nothing here touches the store.

mod address;
mod blob;
mod challenge;
mod client;
mod endpoint;
mod failure;
mod retry;
mod session;

pub(crate) use blob::copy_blob;
pub(crate) use endpoint::Registries;
pub(crate) use session::Session;

/// Whether a `WWW-Authenticate` header is one that can be answered, for the fuzz targets.
#[cfg(fuzzing)]
pub(crate) fn is_challenge(header: &str) -> bool {
    challenge::parse_challenge(header).is_some()
}
