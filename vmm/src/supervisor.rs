//! Waiting on the main thread for whatever comes first.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use husk_vmm_config::{Accelerator, Command, Event, Statistics, StopReason, step};

use crate::accelerator::{Counts, Ended, Guest, Progress};
use crate::console::Console;
use crate::control::Control;
use crate::poll::{Poll, Watch};
use crate::sys::TerminationSignals;
use crate::timeline::Timeline;

/// The upper halves of the tokens; the guest's is zero.
const CLASS_SHIFT: u32 = 32;
const GUEST: u64 = 0;
const CONTROL: u64 = 1;
const SIGNALS: u64 = 2;

/// Why waiting came to an end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// A command or a signal.
    Requested,
    /// The guest, or what ran it.
    Ended(Ended),
}

/// The main thread's event loop.
pub(crate) struct Supervisor {
    poll: Poll,
    _signals: TerminationSignals,
    control: Control,
    console: Console,
    timeline: Arc<Timeline>,
}

/// The control socket's tokens on the supervisor's loop.
pub(crate) const CONTROL_TOKENS: u64 = CONTROL << CLASS_SHIFT;

impl Supervisor {
    /// `control` is on `poll` already, under [`CONTROL_TOKENS`].
    pub(crate) fn new(
        poll: Poll,
        signals: TerminationSignals,
        control: Control,
        timeline: Arc<Timeline>,
    ) -> io::Result<Self> {
        poll.add(&signals, SIGNALS << CLASS_SHIFT, Watch::Readable)?;
        Ok(Self { poll, _signals: signals, control, console: Console::new(), timeline })
    }

    /// The loop, for what has events of its own.
    pub(crate) fn poll(&self) -> &Poll {
        &self.poll
    }

    /// Tells everyone at the control socket.
    pub(crate) fn tell(&mut self, event: &Event) {
        self.control.tell(event);
    }

    /// Waits until the guest has ended or shall end.
    pub(crate) fn wait(
        &mut self,
        guest: &mut dyn Guest,
        accelerator: Accelerator,
    ) -> io::Result<Cause> {
        let mut events = Vec::new();
        loop {
            let deadline = guest.deadline();
            let timeout =
                deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.poll.wait(&mut events, timeout)?;
            let mut progress = Vec::new();
            for &(token, _) in &events {
                let number = u32::try_from(token & u64::from(u32::MAX)).expect("32 bits fit");
                match token >> CLASS_SHIFT {
                    GUEST => progress.push(guest.handle(number, &mut self.console)),
                    CONTROL => {
                        for command in self.control.handle(number, &self.poll) {
                            match command {
                                Command::Stop => return Ok(Cause::Requested),
                                Command::Statistics => self.answer(number, guest.counts()),
                            }
                        }
                    }
                    _ => return Ok(Cause::Requested),
                }
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now())
                && guest.deadline().is_some()
            {
                progress.push(guest.handle_deadline(&mut self.console));
            }
            for step in progress {
                match step {
                    Progress::Nothing => {}
                    Progress::Started => {
                        self.timeline.mark(step::ENTERED);
                        self.control.tell(&Event::Started { accelerator });
                    }
                    Progress::Ended(ended) => return Ok(Cause::Ended(ended)),
                }
            }
        }
    }

    fn answer(&mut self, client: u32, counts: Counts) {
        let Counts { exits, memory } = counts;
        let statistics = Statistics { steps: self.timeline.steps(), exits, memory };
        self.control.answer(client, &Event::Statistics(statistics));
    }

    /// The last event, from why waiting ended and what the console holds.
    pub(crate) fn stopped(&self, cause: Cause) -> Event {
        let console = self.console.text();
        Event::Stopped { reason: reason(cause, self.console.panicked()), console }
    }
}

/// What is told of a cause. A kernel that panicked reboots, which looks like a guest's own wish.
fn reason(cause: Cause, panicked: bool) -> StopReason {
    match cause {
        Cause::Ended(Ended::Guest) if panicked => StopReason::Panic,
        Cause::Ended(Ended::Guest) => StopReason::Guest,
        Cause::Ended(Ended::Failed(error)) => StopReason::Accelerator { error },
        Cause::Requested => StopReason::Requested,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_reason() {
        let failed = || Cause::Ended(Ended::Failed("it died".into()));
        let accelerator = || StopReason::Accelerator { error: "it died".into() };
        let guest = || Cause::Ended(Ended::Guest);
        for (cause, panicked, expected) in [
            (guest(), false, StopReason::Guest),
            (guest(), true, StopReason::Panic),
            (Cause::Requested, false, StopReason::Requested),
            (Cause::Requested, true, StopReason::Requested),
            (failed(), false, accelerator()),
            (failed(), true, accelerator()),
        ] {
            assert_eq!(reason(cause, panicked), expected);
        }
    }
}
