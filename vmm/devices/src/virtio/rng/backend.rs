//! Where the entropy comes from.

use std::io;

/// A source of random bytes fit for keys.
pub trait Backend: Send {
    /// Fills all of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()>;
}
