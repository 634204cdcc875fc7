//! Pulling from a registry that runs in the test, and misbehaves as told.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped fails the test")]

mod access;
mod durability;
mod failures;
mod fixture;
mod images;
mod server;
