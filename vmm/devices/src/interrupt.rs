//! How a device makes itself heard.

/// A line that carries edges: to the guest's interrupt controller, or to a device thread.
pub trait Interrupt: Send + Sync {
    /// Sends one edge. It never waits; edges that were not taken yet may merge into one.
    fn raise(&self);
}
