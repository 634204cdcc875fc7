//! The end of what the guest printed, and whether its kernel panicked.

use husk_devices::virtio::console::Ring;

/// What is kept, and told when the microVM has ended.
const KEPT_LENGTH: usize = 4096;

/// What Linux prints when it cannot go on.
const PANIC: &[u8] = b"Kernel panic - not syncing";

/// A bounded memory of the console.
#[derive(Debug)]
pub(crate) struct Console {
    ring: Ring,
    /// The last bytes of the piece before, in which a panic may have begun.
    tail: Vec<u8>,
    panicked: bool,
}

impl Console {
    /// Nothing printed yet.
    pub(crate) fn new() -> Self {
        Self { ring: Ring::new(KEPT_LENGTH), tail: Vec::new(), panicked: false }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.ring.push(bytes);
        if self.panicked {
            return;
        }
        self.tail.extend_from_slice(bytes);
        self.panicked = self.tail.windows(PANIC.len()).any(|window| window == PANIC);
        let excess = self.tail.len().saturating_sub(PANIC.len() - 1);
        self.tail.drain(..excess);
    }

    /// Whether the kernel said so. A program in the guest can print the same words: it fools
    /// nobody but whoever reads why its own microVM ended.
    pub(crate) fn panicked(&self) -> bool {
        self.panicked
    }

    /// The last lines, without control characters: they end up on somebody's terminal.
    pub(crate) fn text(&self) -> String {
        self.ring.text().chars().filter(|&c| !c.is_control() || c == '\n' || c == '\t').collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_seen_across_pieces_of_any_size() {
        for size in [1, 7, 26, 64] {
            let mut console = Console::new();
            let text = b"[ 1.0] Kernel panic - not syncing: VFS\n";
            for piece in text.chunks(size) {
                console.push(piece);
            }
            assert!(console.panicked(), "{size}");
        }
    }

    #[test]
    fn other_words_are_no_panic() {
        let mut console = Console::new();
        console.push(b"Kernel panic - ");
        console.push(b"just joking\n");
        assert!(!console.panicked());
        assert_eq!(console.text(), "Kernel panic - just joking\n");
    }

    #[test]
    fn what_would_move_a_terminal_is_left_out() {
        let mut console = Console::new();
        console.push(b"one\r\n\x1b[2Jtwo\x07\tthree\n");
        assert_eq!(console.text(), "one\n[2Jtwo\tthree\n");
    }

    #[test]
    fn memory_stays_bounded() {
        let mut console = Console::new();
        for _ in 0..1000 {
            console.push(&[b'x'; 4096]);
        }
        assert!(console.text().len() <= KEPT_LENGTH && console.tail.len() < PANIC.len());
    }
}
