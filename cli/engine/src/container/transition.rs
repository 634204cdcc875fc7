//! The table of a container's life: pure, and tested over all pairs.
//!
//! ```text
//!            Start            Started           Ended
//! Created ──────────▶ Starting ──────▶ Running ───────▶ Exited ──Start──▶ Starting
//!    ▲                   │                                 ▲
//!    └── StartFailed, never ran before;  ran before ───────┘
//!
//! Created | Exited ──Remove──▶ Removing      any ──RemoveForced──▶ Removing
//! ```
//!
//! The driver alone moves a container along it; see [`crate::container::driver`].

use serde::{Deserialize, Serialize};

/// Where a container stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It has never run.
    Created,
    /// Its microVM boots, or its program is about to be executed.
    Starting,
    /// Its program runs.
    Running,
    /// It ran and has ended.
    Exited,
    /// It is going away; the only way on is out.
    Removing,
}

/// What may happen to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trigger {
    /// A client wants it to run.
    Start,
    /// Its program has been executed.
    Started,
    /// It could not be started; `ran_before` tells what to go back to.
    StartFailed {
        /// True if it ran at an earlier time.
        ran_before: bool,
    },
    /// Its program, or its microVM, has ended.
    Ended,
    /// A client sends a signal.
    Kill,
    /// A client sets the size of the terminal.
    Resize,
    /// A client removes it.
    Remove,
    /// A client removes it whatever it does.
    RemoveForced,
}

/// Why a trigger does not apply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// It is there already: nothing to do.
    AlreadyDone,
    /// It does not run.
    NotRunning,
    /// It runs, and must not for this.
    StillRunning,
    /// It is being removed.
    BeingRemoved,
    /// No correct driver asks for this.
    Impossible,
}

impl Phase {
    /// Every phase, for tests and listings.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] =
        [Self::Created, Self::Starting, Self::Running, Self::Exited, Self::Removing];

    /// Where `trigger` leads from here.
    ///
    /// # Errors
    /// Why it does not apply here.
    pub(crate) fn next(self, trigger: Trigger) -> Result<Self, Refused> {
        use Phase::{Created, Exited, Removing, Running, Starting};
        match (self, trigger) {
            (Created | Exited, Trigger::Start) => Ok(Starting),
            (Starting | Running, Trigger::Start) => Err(Refused::AlreadyDone),

            (Starting, Trigger::Started) => Ok(Running),
            (Starting, Trigger::StartFailed { ran_before: false }) => Ok(Created),
            (Starting, Trigger::StartFailed { ran_before: true }) => Ok(Exited),
            (Running, Trigger::Ended) => Ok(Exited),
            (
                Created | Running | Exited | Removing,
                Trigger::Started | Trigger::StartFailed { .. },
            )
            | (Created | Starting | Exited | Removing, Trigger::Ended) => Err(Refused::Impossible),

            (Running, Trigger::Kill | Trigger::Resize) => Ok(Running),
            (Created | Starting | Exited, Trigger::Kill | Trigger::Resize) => {
                Err(Refused::NotRunning)
            }

            (Created | Exited, Trigger::Remove) => Ok(Removing),
            (Starting | Running, Trigger::Remove) => Err(Refused::StillRunning),
            (Created | Starting | Running | Exited, Trigger::RemoveForced) => Ok(Removing),

            (
                Removing,
                Trigger::Start
                | Trigger::Kill
                | Trigger::Resize
                | Trigger::Remove
                | Trigger::RemoveForced,
            ) => Err(Refused::BeingRemoved),
        }
    }

    /// The Engine API's word for it. A starting container is `created` or `exited` there; it is
    /// `created` here, as nothing of it runs yet.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created | Self::Starting => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Removing => "removing",
        }
    }

    /// Whether it stays so without anybody doing anything.
    #[cfg(test)]
    pub(crate) fn is_at_rest(self) -> bool {
        matches!(self, Self::Created | Self::Exited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIGGERS: [Trigger; 9] = [
        Trigger::Start,
        Trigger::Started,
        Trigger::StartFailed { ran_before: false },
        Trigger::StartFailed { ran_before: true },
        Trigger::Ended,
        Trigger::Kill,
        Trigger::Resize,
        Trigger::Remove,
        Trigger::RemoveForced,
    ];

    #[test]
    fn every_pair_is_as_drawn() {
        use Phase::{Created, Exited, Removing, Running, Starting};
        use Refused::{AlreadyDone, BeingRemoved, Impossible, NotRunning, StillRunning};
        let (no, idle, busy) = (Err(Impossible), Err(NotRunning), Err(StillRunning));
        let (done, gone) = (Err(AlreadyDone), Err(BeingRemoved));
        let (run, out) = (Ok(Running), Ok(Removing));
        let table = [
            (Created, [Ok(Starting), no, no, no, no, idle, idle, out, out]),
            (Starting, [done, run, Ok(Created), Ok(Exited), no, idle, idle, busy, out]),
            (Running, [done, no, no, no, Ok(Exited), run, run, busy, out]),
            (Exited, [Ok(Starting), no, no, no, no, idle, idle, out, out]),
            (Removing, [gone, no, no, no, no, gone, gone, gone, gone]),
        ];
        assert_eq!(table.map(|(phase, _)| phase), Phase::ALL);
        for (phase, outcomes) in table {
            for (trigger, outcome) in TRIGGERS.into_iter().zip(outcomes) {
                assert_eq!(phase.next(trigger), outcome, "{phase:?} {trigger:?}");
            }
        }
    }

    #[test]
    fn nothing_leads_out_of_removing() {
        assert!(TRIGGERS.iter().all(|trigger| Phase::Removing.next(*trigger).is_err()));
    }

    #[test]
    fn only_created_and_exited_are_at_rest() {
        let resting: Vec<_> = Phase::ALL.into_iter().filter(|phase| phase.is_at_rest()).collect();
        assert_eq!(resting, [Phase::Created, Phase::Exited]);
    }
}
