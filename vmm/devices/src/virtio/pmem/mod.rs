//! Persistent memory (section 5.19 of virtio 1.2): a file of the host that the guest sees as
//! memory, and cannot change.
//!
//! The memory itself is the accelerator's to map, read-only. The device only says where it lies.

mod device;

pub use device::Pmem;

#[cfg(test)]
mod tests;
