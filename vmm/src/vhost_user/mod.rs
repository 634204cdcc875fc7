//! Our device models as vhost-user back ends.

mod front_end;
mod rendezvous;
mod service;

pub(crate) use front_end::FrontEnd;
pub(crate) use rendezvous::Rendezvous;
