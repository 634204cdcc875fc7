//! The thread that serves a group of devices.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use husk_devices::Interrupt;
use husk_devices::virtio::{Ran, Readiness};

use super::budget::{DEAF, KickBudget};
use super::{Endpoint, Line, Notice, Notices, Token};
use crate::poll::{Poll, Watch};
use crate::seccomp::{self, ThreadKind};

/// The deepest call chain is a request's, with a few KiB of buffers in it.
const STACK_LENGTH: usize = 256 << 10;

/// A group that could not be served.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the {group} devices")]
pub(crate) struct WorkerError {
    group: &'static str,
    source: io::Error,
}

/// A running thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Line,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Serves the devices, whose events arrive on `poll` under the [`Token`]s of their places.
    pub(crate) fn start(
        group: &'static str,
        poll: Arc<Poll>,
        endpoints: Vec<Box<dyn Endpoint>>,
        notices: Notices,
    ) -> Result<Self, WorkerError> {
        Self::try_start(group, poll, endpoints, notices)
            .map_err(|source| WorkerError { group, source })
    }

    fn try_start(
        group: &'static str,
        poll: Arc<Poll>,
        endpoints: Vec<Box<dyn Endpoint>>,
        notices: Notices,
    ) -> io::Result<Self> {
        let stop = Line::new()?;
        poll.add(&stop, Token::Stop.encode(), Watch::Readable)?;
        let now = Instant::now();
        let member = |endpoint| Member { endpoint, budget: KickBudget::new(now) };
        let members = endpoints.into_iter().map(member).collect();
        let work = Work { poll, members, deaf: Vec::new(), listen_at: None, notices };
        let thread = Builder::new().name(format!("husk-{group}")).stack_size(STACK_LENGTH).spawn(
            move || match seccomp::install(ThreadKind::Device) {
                Ok(()) => work.run(),
                Err(error) => work.notices.send(Notice::Failed(error.to_string())),
            },
        )?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic ends the process before it ends a thread");
        }
    }
}

/// One device, and what its driver may cost.
struct Member {
    endpoint: Box<dyn Endpoint>,
    budget: KickBudget,
}

struct Work {
    poll: Arc<Poll>,
    members: Vec<Member>,
    /// Queues that are not listened to, by place and index, until `listen_at`.
    deaf: Vec<(usize, u32)>,
    listen_at: Option<Instant>,
    notices: Notices,
}

impl Work {
    fn run(mut self) {
        let mut events = Vec::new();
        loop {
            if let Err(error) = self.poll.wait(&mut events, self.timeout()) {
                return self.notices.send(Notice::Failed(format!("cannot wait: {error}")));
            }
            if self.listen_at.is_some_and(|at| at <= Instant::now()) {
                self.listen_again();
            }
            for &(token, readiness) in &events {
                match Token::decode(token) {
                    Token::Stop => return,
                    token => self.handle(token, readiness),
                }
            }
            for member in &mut self.members {
                if member.endpoint.has_more() {
                    let ran = member.endpoint.run_again();
                    member.note(&ran, &self.notices);
                }
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if self.members.iter().any(|member| member.endpoint.has_more()) {
            return Some(Duration::ZERO);
        }
        self.listen_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn handle(&mut self, token: Token, readiness: Readiness) {
        let (Token::Device(place, _) | Token::Transport(place) | Token::Kick(place, _)) = token
        else {
            return;
        };
        let Some(member) = self.members.get_mut(place) else { return };
        match token {
            Token::Device(_, number) => {
                let ran = member.endpoint.handle_event(number, readiness);
                member.note(&ran, &self.notices);
            }
            Token::Kick(_, queue) => {
                let ran = member.endpoint.kick(queue);
                member.note(&ran, &self.notices);
                if !ran.used && !member.budget.spend(Instant::now()) {
                    member.endpoint.listen(queue, false);
                    self.deaf.push((place, queue));
                    self.listen_at.get_or_insert_with(|| Instant::now() + DEAF);
                }
            }
            Token::Transport(_) | Token::Stop => member.endpoint.handle_transport(&self.notices),
        }
    }

    fn listen_again(&mut self) {
        self.listen_at = None;
        for (place, queue) in self.deaf.drain(..) {
            if let Some(member) = self.members.get_mut(place) {
                member.endpoint.listen(queue, true);
            }
        }
    }
}

impl Member {
    fn note(&mut self, ran: &Ran, notices: &Notices) {
        if ran.used {
            self.budget.restore();
        }
        if ran.activated {
            notices.send(Notice::Activated);
        }
    }
}

#[cfg(test)]
mod tests;
