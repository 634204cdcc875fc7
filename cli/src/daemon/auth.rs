//! The `X-Registry-Auth` header: base64url of a JSON document with a registry's credentials.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use husk_api::{ApiError, ErrorCode};
use hyper::HeaderMap;
use serde::Deserialize;

/// Longer headers are refused before they are decoded.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Clients differ in padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Only what is used; the address is the daemon's own business.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthConfig {
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// User and password, if the client sent any.
///
/// # Errors
/// `InvalidArgument` for a malformed header, `Unsupported` for token credentials. The header's
/// content is never repeated in a message.
pub(super) fn credentials(headers: &HeaderMap) -> Result<Option<(String, String)>, ApiError> {
    let Some(header) = headers.get("x-registry-auth") else { return Ok(None) };
    let invalid = |why: &str| {
        ApiError::new(ErrorCode::InvalidArgument, format!("invalid X-Registry-Auth header: {why}"))
    };
    if header.len() > HEADER_BYTES_MAX {
        return Err(invalid("longer than 16 KiB"));
    }
    if header.is_empty() {
        return Ok(None);
    }
    let json = BASE64.decode(header.as_bytes()).map_err(|_| invalid("no base64url"))?;
    let auth: Option<AuthConfig> =
        serde_json::from_slice(&json).map_err(|_| invalid("no JSON document with credentials"))?;
    let auth = auth.unwrap_or_default();
    if !auth.identitytoken.is_empty() || !auth.registrytoken.is_empty() {
        return Err(ApiError::new(
            ErrorCode::Unsupported,
            "husk does not support identity tokens for registries yet: log in with a password",
        ));
    }
    Ok((!auth.username.is_empty()).then_some((auth.username, auth.password)))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD as BARE};
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn header(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-registry-auth", HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn no_header_or_an_empty_document_means_no_credentials() {
        assert_eq!(credentials(&HeaderMap::new()), Ok(None));
        assert_eq!(credentials(&header("e30=")), Ok(None));
        assert_eq!(credentials(&header("")), Ok(None));
        assert_eq!(credentials(&header(&BARE.encode("null"))), Ok(None));
    }

    #[test]
    fn credentials_come_with_or_without_padding() {
        let json = r#"{"username":"u","password":"p?>","serveraddress":"r"}"#;
        let expected = Ok(Some(("u".to_owned(), "p?>".to_owned())));
        assert_eq!(credentials(&header(&PADDED.encode(json))), expected);
        assert_eq!(credentials(&header(&BARE.encode(json))), expected);
    }

    #[test]
    fn bad_headers_are_refused_without_repeating_them() {
        let error = credentials(&header("c2VjcmV0IQ==")).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(!error.message.contains("secret"));
        assert!(credentials(&header("***")).is_err());
        assert!(credentials(&header(&"a".repeat(HEADER_BYTES_MAX + 1))).is_err());
        let token = BARE.encode(r#"{"identitytoken":"t"}"#);
        assert_eq!(credentials(&header(&token)).unwrap_err().code, ErrorCode::Unsupported);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(value in "[!-~]{0,200}") {
            let _ = credentials(&header(&value));
        }
    }
}
