//! The last bytes of a stream without end.

use std::collections::VecDeque;

/// A bounded tail: what is too old makes room, and is counted.
#[derive(Debug)]
pub struct Ring {
    bytes: VecDeque<u8>,
    capacity: usize,
    dropped: u64,
}

impl Ring {
    /// An empty ring that keeps `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::new(), capacity, dropped: 0 }
    }

    /// Appends `bytes`, at the cost of the oldest.
    pub fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(self.capacity)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
        self.dropped += (excess + bytes.len() - kept.len()) as u64;
    }

    /// Bytes that had to make room since the beginning.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What is kept, as text: whole lines where some were dropped, `\r` removed, bytes that are no
    /// UTF-8 replaced.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().filter(|&byte| byte != b'\r').collect();
        let cut = match bytes.iter().position(|&byte| byte == b'\n') {
            Some(end) if self.dropped > 0 => end + 1,
            _ => 0,
        };
        String::from_utf8_lossy(&bytes[cut..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_stay_and_the_others_are_counted() {
        let mut ring = Ring::new(8);
        ring.push(b"one\ntwo\n");
        assert_eq!((ring.text().as_str(), ring.dropped()), ("one\ntwo\n", 0));
        ring.push(b"x\r\n");
        assert_eq!((ring.text().as_str(), ring.dropped()), ("two\nx\n", 3));
        ring.push(b"a stream that is longer than the ring");
        assert_eq!((ring.text().as_str(), ring.dropped()), ("the ring", 40));
    }

    #[test]
    fn any_bytes_become_text() {
        let mut ring = Ring::new(8);
        ring.push(&[0xff, b'a', 0]);
        assert_eq!(ring.text(), "\u{fffd}a\0");
    }
}
