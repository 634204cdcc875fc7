//! `WWW-Authenticate` of a registry (RFC 9110 section 11, distribution's token specification).
//! Pure; the text is hostile.

use http_auth::ChallengeParser;
use reqwest::Url;

/// How the registry wants to be convinced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Challenge {
    /// A token from the service at `realm`.
    Bearer {
        /// Where the token comes from.
        realm: Url,
        /// Whom it is for.
        service: Option<String>,
    },
    /// User and password.
    Basic,
}

/// Finds the best challenge in a header; `None` if there is none that we can answer.
pub(super) fn parse_challenge(header: &str) -> Option<Challenge> {
    let mut best = None;
    for challenge in ChallengeParser::new(header) {
        // What came before a syntax error still counts.
        let Ok(challenge) = challenge else { break };
        if challenge.scheme.eq_ignore_ascii_case("bearer") {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let realm = parameter("realm").and_then(|realm| Url::parse(&realm).ok());
            if let Some(realm) = realm.filter(|url| matches!(url.scheme(), "http" | "https")) {
                return Some(Challenge::Bearer { realm, service: parameter("service") });
            }
        } else if challenge.scheme.eq_ignore_ascii_case("basic") {
            best = Some(Challenge::Basic);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bearer_goes_before_basic() {
        let header = r#"Basic realm="x", Bearer realm="https://a.example/token",service="reg""#;
        let realm = Url::parse("https://a.example/token").unwrap();
        assert_eq!(
            parse_challenge(header),
            Some(Challenge::Bearer { realm, service: Some("reg".to_owned()) })
        );
        assert_eq!(parse_challenge("basic realm=\"x\""), Some(Challenge::Basic));
    }

    #[test]
    fn what_cannot_be_answered_is_none() {
        for header in ["", "Digest realm=\"x\"", "Bearer realm=\"file:///etc\"", "Bearer", "\"\\"] {
            assert_eq!(parse_challenge(header), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "\\PC{0,120}") {
            let _ = parse_challenge(&header);
        }
    }
}
