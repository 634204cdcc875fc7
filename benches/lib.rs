//! What all benches share.

pub mod figure;
pub mod machine;
pub mod memory;
