//! Container names: Docker's pattern, and made-up ones.

use rand::seq::IndexedRandom;

const ADJECTIVES: &[&str] = &[
    "agile", "amber", "ample", "brave", "breezy", "bright", "brisk", "calm", "candid", "careful",
    "cheerful", "clever", "cosy", "crisp", "curious", "daring", "deft", "eager", "earnest", "fair",
    "faithful", "fleet", "fond", "frank", "gentle", "glad", "golden", "graceful", "hardy",
    "hearty", "honest", "humble", "keen", "kind", "lively", "lucid", "lucky", "mellow", "merry",
    "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "polite", "prompt", "proud",
    "quick", "quiet", "ready", "rosy", "serene", "sharp", "silver", "sincere", "sleek", "smart",
    "snug", "sober", "spry", "steady", "stoic", "sunny", "swift", "tidy", "upbeat", "vivid",
    "warm", "wise", "witty", "zesty",
];

const SURNAMES: &[&str] = &[
    "abel",
    "ampere",
    "babbage",
    "banach",
    "bernoulli",
    "bessel",
    "bohr",
    "boole",
    "born",
    "brahe",
    "cantor",
    "cauchy",
    "celsius",
    "church",
    "curie",
    "dalton",
    "darwin",
    "descartes",
    "dijkstra",
    "dirac",
    "einstein",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "hamilton",
    "hawking",
    "heisenberg",
    "hertz",
    "hilbert",
    "hopper",
    "hubble",
    "huygens",
    "hypatia",
    "joule",
    "kelvin",
    "kepler",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "laplace",
    "leibniz",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "napier",
    "newton",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "planck",
    "poincare",
    "ramanujan",
    "riemann",
    "ritchie",
    "rutherford",
    "shannon",
    "tesla",
    "turing",
    "volta",
    "watt",
    "wiles",
    "wirth",
];

/// Whether `name` is one that Docker accepts: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 2
        && bytes.len() <= 255
        && bytes[0].is_ascii_alphanumeric()
        && bytes[1..].iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

/// Makes up `adjective_surname`; later attempts (from 1) end in a digit to get out of the way of
/// names in use.
pub(crate) fn generate(attempt: u32) -> String {
    let mut rng = rand::rng();
    let adjective = ADJECTIVES.choose(&mut rng).expect("the list is not empty");
    let surname = SURNAMES.choose(&mut rng).expect("the list is not empty");
    if attempt == 0 {
        format!("{adjective}_{surname}")
    } else {
        format!("{adjective}_{surname}{}", rand::random_range(0..10_u64.pow(attempt.min(9))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_pattern_decides() {
        for name in ["ab", "A1", "0_.-", "web-1.example_x"] {
            assert!(is_valid(name), "{name}");
        }
        for name in ["", "a", "_ab", "-ab", "a b", "a/b", "a\n", "ä1", &"a".repeat(256)] {
            assert!(!is_valid(name), "{name:?}");
        }
    }

    #[test]
    fn every_made_up_name_is_valid() {
        for adjective in ADJECTIVES {
            for surname in SURNAMES {
                assert!(is_valid(&format!("{adjective}_{surname}")));
            }
        }
        for attempt in 0..12 {
            assert!(is_valid(&generate(attempt)));
        }
    }
}
