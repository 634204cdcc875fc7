//! The key sequence that leaves a container running (`ctrl-p,ctrl-q` unless chosen otherwise).

/// Longer sequences are refused.
const KEYS_MAX: usize = 32;

/// A sequence that cannot be typed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "invalid detach keys {0:?}: use letters, ctrl-a to ctrl-z, ctrl-@, ctrl-[, ctrl-\\, ctrl-], ctrl-^ or ctrl-_, with commas between"
)]
pub(crate) struct DetachKeysError(String);

/// Finds the sequence in typed bytes.
#[derive(Clone, Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// What became of typed bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Scan {
    /// Pass these on (keys that may begin the sequence are held back).
    Pass(Vec<u8>),
    /// Pass these on, then leave.
    Detach(Vec<u8>),
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: vec![0x10, 0x11], matched: 0 }
    }
}

impl DetachKeys {
    /// Reads Docker's notation.
    pub(crate) fn parse(text: &str) -> Result<Self, DetachKeysError> {
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        match keys {
            Some(keys) if !keys.is_empty() && keys.len() <= KEYS_MAX => {
                Ok(Self { keys, matched: 0 })
            }
            _ => Err(DetachKeysError(text.to_owned())),
        }
    }

    /// Looks at typed bytes.
    pub(crate) fn scan(&mut self, typed: &[u8]) -> Scan {
        let mut pass = Vec::with_capacity(typed.len());
        for &byte in typed {
            self.step(byte, &mut pass);
            if self.matched == self.keys.len() {
                self.matched = 0;
                return Scan::Detach(pass);
            }
        }
        Scan::Pass(pass)
    }

    /// Extends the match by a byte, or gives up as little of it as possible.
    fn step(&mut self, byte: u8, pass: &mut Vec<u8>) {
        let mut held: Vec<u8> = self.keys[..self.matched].to_vec();
        held.push(byte);
        while !self.keys.starts_with(&held) {
            pass.push(held.remove(0));
        }
        self.matched = held.len();
    }
}

/// One key: a character, or `ctrl-` and a character.
fn key(text: &str) -> Option<u8> {
    if let [byte] = text.as_bytes() {
        return byte.is_ascii().then_some(*byte);
    }
    match text.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [other @ b'['..=b'_'] => Some(other - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sequence_detaches_also_in_two_pieces() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.scan(b"ls\n\x10"), Scan::Pass(b"ls\n".to_vec()));
        assert_eq!(keys.scan(b"\x11rest"), Scan::Detach(Vec::new()));
    }

    #[test]
    fn a_broken_sequence_is_passed_on() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.scan(b"\x10"), Scan::Pass(Vec::new()));
        assert_eq!(keys.scan(b"a"), Scan::Pass(b"\x10a".to_vec()));
        assert_eq!(keys.scan(b"\x10\x10\x11"), Scan::Detach(b"\x10".to_vec()));
    }

    #[test]
    fn notation_is_dockers() {
        assert_eq!(DetachKeys::parse("ctrl-a,x").unwrap().keys, [1, b'x']);
        assert_eq!(DetachKeys::parse("ctrl-@,ctrl-[,ctrl-_").unwrap().keys, [0, 27, 31]);
        for bad in ["", "ctrl-", "ctrl-A", "a,,b", "ab", "ctrl-`", "ä"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn without_the_sequence_nothing_is_lost(typed in proptest::collection::vec(0u8..20, 0..60)) {
            let mut keys = DetachKeys::default();
            let mut got = Vec::new();
            for piece in typed.chunks(3) {
                match keys.scan(piece) {
                    Scan::Pass(bytes) => got.extend(bytes),
                    Scan::Detach(bytes) => {
                        got.extend(bytes);
                        got.extend([0x10, 0x11]);
                        prop_assert!(typed.starts_with(&got));
                        return Ok(());
                    }
                }
            }
            got.extend(&keys.keys[..keys.matched]);
            prop_assert_eq!(got, typed);
        }
    }
}
