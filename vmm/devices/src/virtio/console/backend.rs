//! Who listens to the guest's console.

/// The host's end of the console.
pub trait Backend: Send {
    /// Takes what the guest wrote: up to a few KiB at a time, any bytes at all. It must not wait.
    fn write(&mut self, bytes: &[u8]);

    /// Whether more may be written now: the guest's output waits where not, and is looked at again
    /// after the next event.
    fn is_writable(&self) -> bool {
        true
    }

    /// Moves what was typed into `bytes` and returns how much; 0 for nothing now.
    fn read(&mut self, bytes: &mut [u8]) -> usize;

    /// Whether something typed waits to be read.
    fn is_readable(&self) -> bool;
}
