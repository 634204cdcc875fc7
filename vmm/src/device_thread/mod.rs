//! The threads behind the devices.
//!
//! One thread serves a group of devices: what their transports want, the driver's kicks and what
//! the devices watch on the host all arrive in one event loop. A device thus needs no lock of its
//! own, and no thread either. How a device is reached is its [`Endpoint`]'s business.

mod budget;
mod line;
mod mmio;
mod notice;
mod token;
mod worker;

pub(crate) use line::Line;
pub(crate) use mmio::MmioDevice;
pub(crate) use notice::{Inbox, Notice, Notices};
pub(crate) use token::{Token, device_tokens};
pub(crate) use worker::{Worker, WorkerError};

use husk_devices::virtio::{Ran, Readiness};

/// One device of a group, behind its transport. All calls come from the group's thread.
pub(crate) trait Endpoint: Send {
    /// The driver kicked that queue: [`Token::Kick`].
    fn kick(&mut self, queue: u32) -> Ran;

    /// Something that the device watches is ready: [`Token::Device`].
    fn handle_event(&mut self, token: u32, readiness: Readiness) -> Ran;

    /// The transport itself wants something: [`Token::Transport`].
    fn handle_transport(&mut self, notices: &Notices);

    /// Whether queues wait for another turn without an event.
    fn has_more(&self) -> bool;

    /// Gives them that turn.
    fn run_again(&mut self) -> Ran;

    /// Listens to kicks of that queue no more, or again. Kicks in between are not lost.
    fn listen(&mut self, queue: u32, listen: bool);
}
