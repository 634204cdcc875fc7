//! System calls that no safe wrapper covers.

pub mod tap;
