//! Our device models as vhost-user back ends.
//!
//! One thread serves a group of devices: the front end's messages, the driver's kicks and what
//! the devices watch on the host all arrive in one event loop. A device thus needs no lock of its
//! own, and no thread either.

mod notice;
mod service;
mod token;
mod worker;

pub(crate) use notice::{Inbox, Notice, Notices};
pub(crate) use token::device_tokens;
pub(crate) use worker::{Worker, WorkerError};
