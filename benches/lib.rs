//! What all benches share.

pub mod figure;
