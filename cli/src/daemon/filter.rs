//! The `filters` parameter, in both forms that clients send.

use std::collections::{BTreeMap, HashMap};

use husk_api::{ApiError, ErrorCode};
use serde::Deserialize;

/// Values by filter name.
pub(super) type Filters = HashMap<String, Vec<String>>;

/// `{"v": true}` since API 1.22, `["v"]` before and in docker-py.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Set(BTreeMap<String, bool>),
    List(Vec<String>),
}

/// Reads the JSON; no parameter means no filter.
pub(super) fn parse(text: Option<&str>) -> Result<Filters, ApiError> {
    let Some(text) = text else { return Ok(Filters::new()) };
    let parsed: BTreeMap<String, Values> = serde_json::from_str(text).map_err(|_| {
        ApiError::new(
            ErrorCode::InvalidArgument,
            format!("invalid filter: {text:?} is no JSON map"),
        )
    })?;
    Ok(parsed.into_iter().map(|(name, values)| (name, values.chosen())).collect())
}

impl Values {
    fn chosen(self) -> Vec<String> {
        match self {
            Self::Set(values) => {
                values.into_iter().filter(|(_, wanted)| *wanted).map(|(value, _)| value).collect()
            }
            Self::List(values) => values,
        }
    }
}

/// Whether a shell pattern (`*`, `?`) matches a whole text; `*` stays within one path component,
/// as in Go's `path.Match`.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&wanted) if wanted == text[t] || (wanted == '?' && text[t] != '/') => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) if text[from] != '/' => {
                    retry = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|left| *left == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let new = parse(Some(r#"{"status":{"exited":true,"dead":false}}"#)).unwrap();
        let old = parse(Some(r#"{"status":["exited"]}"#)).unwrap();
        assert_eq!(new, old);
        assert_eq!(new["status"], ["exited"]);
        assert_eq!(parse(None).unwrap(), Filters::new());
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["x", "[]", r#"{"a":1}"#, r#"{"a":{"b":1}}"#] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_match_within_a_component() {
        assert!(glob("busy*", "busybox"));
        assert!(glob("*/app", "me/app"));
        assert!(glob("b?sybox", "busybox"));
        assert!(glob("*", ""));
        assert!(!glob("*", "me/app"));
        assert!(!glob("busy", "busybox"));
    }
}
