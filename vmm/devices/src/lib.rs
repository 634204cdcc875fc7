//! Virtio device models, independent of transport and hypervisor.
//!
//! Each device is the device half of one section of the virtio 1.2 specification: it walks
//! virtqueues in guest memory and acts on what the host hands it through the traits of its
//! `backend` module. It opens nothing, starts no thread, and knows neither KVM nor vhost-user: a
//! transport drives it through [`virtio::QueuedDevice`]. One transport is here, [`mmio`], for
//! guests whose exits arrive in this process.
//!
//! Everything in guest memory is hostile. Each `request` or `packet` module reads it once into a
//! checked value; what is acted upon afterwards is that value, never guest memory again.

#![forbid(unsafe_code)]

pub mod bus;
mod interrupt;
pub mod mmio;
pub mod rate_limiter;
pub mod virtio;

pub use interrupt::Interrupt;
