//! Docker's references, by table and by property.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> ReferenceError {
    text.parse::<Reference>().expect_err(text)
}

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn names_are_completed_as_docker_completes_them() {
    for (text, full, familiar) in [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("docker.io/x.y/app", "docker.io/x.y/app:latest", "docker.io/x.y/app:latest"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000/a/b/c:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("ghcr.io/o/app:A_b.c-1", "ghcr.io/o/app:A_b.c-1", "ghcr.io/o/app:A_b.c-1"),
        ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
        ("a__b--c.d_e", "docker.io/library/a__b--c.d_e:latest", "a__b--c.d_e:latest"),
        ("sha256", "docker.io/library/sha256:latest", "sha256:latest"),
    ] {
        let reference = parse(text);
        assert_eq!(reference.to_string(), full, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
    }
}

#[test]
fn a_digest_takes_the_place_of_the_default_tag() {
    let by_digest = parse(&format!("busybox@sha256:{HEX}"));
    assert_eq!(by_digest.tag(), None);
    assert_eq!(by_digest.digest(), Some(Digest::of(b"")));
    let both = parse(&format!("localhost:5000/app:v1@sha256:{HEX}"));
    assert_eq!((both.tag(), both.digest()), (Some("v1"), Some(Digest::of(b""))));
    assert_eq!(both.to_string(), format!("localhost:5000/app:v1@sha256:{HEX}"));
}

#[test]
fn what_is_against_the_grammar_is_refused() {
    for text in [
        "",
        ":",
        "/",
        "@",
        ":tag",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a._b",
        "a b",
        "a//b",
        "a/",
        "/a",
        "a:",
        "a@",
        "a:-b",
        "a:b:c",
        "a@sha256:00",
        "aa/asdf$$^/aa",
        "host:port/a",
        "x.y-/a",
        "foo_bar.com:8080/a",
        "[fe80::1%eth0]/a",
        "[::1/a",
        "a/b:c/d",
        "https://a/b",
        "bücher",
        "a:b\n",
        "..",
        "a/../b",
    ] {
        assert_eq!(refused(text), ReferenceError::Format, "{text}");
        assert_eq!(refused(text).to_string(), "invalid reference format");
    }
}

#[test]
fn upper_case_is_named_as_the_cause() {
    for text in ["Busybox", "docker.io/Busybox:1", "localhost:5000/A/b"] {
        let message = refused(text).to_string();
        assert!(message.ends_with("must be lowercase"), "{text}: {message}");
    }
}

#[test]
fn what_looks_like_an_id_is_refused() {
    assert!(matches!(refused(HEX), ReferenceError::LooksLikeId { .. }));
    assert_eq!(parse(&HEX[1..]).repository(), format!("library/{}", &HEX[1..]));
}

#[test]
fn digests_of_other_algorithms_or_lengths_are_refused() {
    let sha512 = format!("a@sha512:{HEX}{HEX}");
    assert_eq!(refused(&sha512), ReferenceError::Digest(DigestError::Algorithm));
    let long = format!("a@sha256:{HEX}00");
    assert_eq!(refused(&long), ReferenceError::Digest(DigestError::Length));
}

#[test]
fn lengths_are_bounded() {
    assert_eq!(parse(&format!("x.y/{}", "a".repeat(255))).repository().len(), 255);
    assert_eq!(refused(&format!("x.y/{}", "a".repeat(256))), ReferenceError::TooLong);
    assert_eq!(parse(&format!("a:{}", "t".repeat(128))).tag().unwrap().len(), 128);
    assert_eq!(refused(&format!("a:{}", "t".repeat(129))), ReferenceError::Format);
    assert_eq!(refused(&"a/".repeat(100_000)), ReferenceError::Format);
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_is_stable(text in "\\PC{0,80}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(&parse(&reference.to_string()), &reference);
            prop_assert_eq!(&parse(&reference.familiar()), &reference);
        }
    }

    #[test]
    fn well_formed_names_parse(
        registry in "([a-z][a-z0-9]{0,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?/)?",
        path in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}){0,3}",
        tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
    ) {
        let text = format!("{registry}{path}{tag}");
        let reference = parse(&text);
        prop_assert_eq!(&parse(&reference.to_string()), &reference);
        prop_assert_eq!(&parse(&reference.familiar()), &reference);
    }
}
