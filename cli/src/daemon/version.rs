//! The version prefix of a request path (`/v1.43/…`) and whether we speak that version.

use husk_api::{API_VERSION, ApiError, ErrorCode, MIN_API_VERSION};

/// An Engine API version.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// Since this version an attached stream says in its content type that it is multiplexed.
    pub(super) const MULTIPLEXED_TYPE: Self = Self { major: 1, minor: 42 };

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// The version that a path asks for (ours if it names none), and the path without the prefix.
///
/// # Errors
/// `InvalidArgument` for a version outside of what is served, in dockerd's words.
pub(super) fn negotiate(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let ours = ApiVersion::parse(API_VERSION).expect("the announced version is well formed");
    let oldest = ApiVersion::parse(MIN_API_VERSION).expect("the oldest version is well formed");
    let Some((text, version, rest)) = prefix(path) else { return Ok((ours, path)) };
    if version > ours {
        return Err(refused(format!(
            "client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    if version < oldest {
        return Err(refused(format!(
            "client version {text} is too old. Minimum supported API version is \
             {MIN_API_VERSION}, please upgrade your client to a newer version"
        )));
    }
    Ok((version, rest))
}

/// Splits `/v1.43/rest`; anything else has no prefix.
fn prefix(path: &str) -> Option<(&str, ApiVersion, &str)> {
    let rest = path.strip_prefix("/v")?;
    let slash = rest.find('/')?;
    let (text, rest) = rest.split_at(slash);
    Some((text, ApiVersion::parse(text)?, rest))
}

/// Digits only: `parse` alone would take `+1`.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn refused(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_prefix_speaks_our_version() {
        let (version, rest) = negotiate("/_ping").unwrap();
        assert_eq!((version, rest), (ApiVersion { major: 1, minor: 51 }, "/_ping"));
    }

    #[test]
    fn a_prefix_is_cut_off() {
        let (version, rest) = negotiate("/v1.24/containers/json").unwrap();
        assert_eq!((version, rest), (ApiVersion { major: 1, minor: 24 }, "/containers/json"));
        assert!(version < ApiVersion::MULTIPLEXED_TYPE);
    }

    #[test]
    fn versions_compare_by_number_not_by_text() {
        assert!(negotiate("/v1.9/info").unwrap_err().message.contains("1.9 is too old"));
        assert_eq!(
            negotiate("/v1.52/info").unwrap_err().message,
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
    }

    #[test]
    fn what_only_looks_like_a_version_is_part_of_the_path() {
        for path in ["/volumes", "/v1.x/info", "/v/info", "/v1.+4/info", "/v1.43", "/"] {
            assert_eq!(negotiate(path).unwrap().1, path);
        }
    }
}
