//! `/dev/kvm`. In this version only to find out whether it is worth using.

mod probe;

pub(crate) use probe::probe;
