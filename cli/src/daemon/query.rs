//! Query parameters, read the way dockerd reads them.

use std::collections::HashMap;

use axum::extract::Query as Form;
use husk_api::{ApiError, ErrorCode};
use hyper::Uri;

/// Nanoseconds in a second.
const NS_PER_S: i64 = 1_000_000_000;

/// The parameters of one request; of a repeated one the last counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    /// Takes them from a request's target.
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        Form::try_from_uri(uri)
            .map(|Form(parameters)| Self(parameters))
            .map_err(|error| invalid(format!("invalid query: {}", error.body_text())))
    }

    /// A parameter that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// dockerd's truth: anything but empty, `0`, `no`, `false` and `none`.
    pub(super) fn flag(&self, name: &str) -> bool {
        let value = self.0.get(name).map(|value| value.trim().to_ascii_lowercase());
        !matches!(value.as_deref(), None | Some("" | "0" | "no" | "false" | "none"))
    }

    /// A whole number, if the parameter is there.
    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let parsed = text.parse().map_err(|_| invalid(format!("invalid {name}: {text:?}")))?;
        Ok(Some(parsed))
    }

    /// Seconds since 1970 with an optional fraction, as nanoseconds; zero counts as none.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let time = nanoseconds(text)
            .ok_or_else(|| invalid(format!("invalid {name}: {text:?} is no unix time")))?;
        Ok((time != 0).then_some(time))
    }
}

/// Reads `seconds[.fraction]`; digits beyond nanoseconds are cut off.
fn nanoseconds(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let fraction: i64 = digits.parse().ok()?;
    let signed = if text.starts_with('-') { -fraction } else { fraction };
    seconds.checked_mul(NS_PER_S)?.checked_add(signed)
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn truth_is_dockers() {
        for yes in ["a=1", "a=true", "a=True", "a=x"] {
            assert!(query(yes).flag("a"), "{yes}");
        }
        for no in ["a=", "a=0", "a=False", "a=none", "a=no", "b=1"] {
            assert!(!query(no).flag("a"), "{no}");
        }
    }

    #[test]
    fn times_have_fractions() {
        assert_eq!(query("t=1700000000.000000005").time("t"), Ok(Some(1_700_000_000_000_000_005)));
        assert_eq!(query("t=12").time("t"), Ok(Some(12_000_000_000)));
        assert_eq!(query("t=0").time("t"), Ok(None));
        assert_eq!(query("t=1.1234567899").time("t"), Ok(Some(1_123_456_789)));
    }

    #[test]
    fn a_bad_time_or_number_is_named() {
        for bad in ["t=x", "t=1.x", "t=99999999999999999999", "t=9999999999999"] {
            assert!(query(bad).time("t").is_err(), "{bad}");
        }
        assert_eq!(query("n=1x").number::<u16>("n").unwrap_err().message, "invalid n: \"1x\"");
    }

    #[test]
    fn text_is_decoded() {
        assert_eq!(query("i=docker.io%2Flibrary%2Fa").text("i"), Some("docker.io/library/a"));
    }
}
