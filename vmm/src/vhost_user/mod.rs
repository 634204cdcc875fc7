//! Our device models as vhost-user back ends.

mod front_end;
mod service;

pub(crate) use front_end::FrontEnd;
