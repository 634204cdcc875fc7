//! What the vCPUs tell the main thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc;

use husk_devices::Interrupt;
use husk_devices::bus::Bus;
use husk_vmm_config::step;

use crate::device_thread::Line;
use crate::kvm::{Held, InterruptController, Surroundings, VcpuEnd};
use crate::seccomp::{self, ThreadKind};
use crate::timeline::Timeline;

/// Something that happened on a vCPU.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Message {
    /// The first one enters the guest.
    Entered,
    /// One does not run any more.
    Ended(VcpuEnd),
}

/// The vCPUs' end.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    sender: mpsc::Sender<Message>,
    bell: Line,
}

/// The main thread's end: readable while something is there.
#[derive(Debug)]
pub(super) struct Messages {
    receiver: mpsc::Receiver<Message>,
    bell: Line,
}

/// Both ends.
pub(super) fn channel() -> io::Result<(Sender, Messages)> {
    let bell = Line::new()?;
    let (sender, receiver) = mpsc::channel();
    Ok((Sender { sender, bell: bell.clone() }, Messages { receiver, bell }))
}

impl Sender {
    fn send(&self, message: Message) {
        // Nobody listens any more where the guest is being ended.
        if self.sender.send(message).is_ok() {
            self.bell.raise();
        }
    }

    /// What vCPU `number` works with.
    pub(super) fn surroundings(
        &self,
        number: u8,
        bus: &Arc<Bus>,
        (interrupts, held): (&Arc<InterruptController>, &Arc<Held>),
        timeline: &Arc<Timeline>,
    ) -> Surroundings {
        let (entering, ended, timeline) = (self.clone(), self.clone(), timeline.clone());
        Surroundings {
            bus: bus.clone(),
            interrupts: interrupts.clone(),
            held: held.clone(),
            entering: Box::new(move || {
                seccomp::install(ThreadKind::Vcpu).map_err(|error| error.to_string())?;
                if number == 0 {
                    timeline.mark(step::ENTERED);
                    entering.send(Message::Entered);
                }
                Ok(())
            }),
            ended: Box::new(move |end| ended.send(Message::Ended(end))),
        }
    }
}

impl Messages {
    /// All that is there now.
    pub(super) fn drain(&self) -> Vec<Message> {
        self.bell.take();
        self.receiver.try_iter().collect()
    }
}

impl AsFd for Messages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
