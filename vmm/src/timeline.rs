//! When each step of a start was reached.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use husk_vmm_config::Step;

/// The steps so far, from any thread.
#[derive(Debug)]
pub(crate) struct Timeline {
    began: Instant,
    steps: Mutex<Vec<Step>>,
}

impl Timeline {
    /// The process begins now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), steps: Mutex::default() }
    }

    /// A step, one of [`husk_vmm_config::step`]'s names, is reached; only its first time counts.
    pub(crate) fn mark(&self, name: &'static str) {
        let us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if !steps.iter().any(|step| step.name == name) {
            steps.push(Step { name: name.to_owned(), us });
        }
    }

    /// All steps so far.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use husk_vmm_config::step;

    use super::*;

    #[test]
    fn each_step_is_told_once_and_in_order() {
        let timeline = Timeline::new();
        for name in [step::CONFIGURED, step::ENTERED, step::CALLED, step::CALLED] {
            timeline.mark(name);
        }
        let steps = timeline.steps();
        let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["configured", "entered", "called"]);
        assert!(steps.is_sorted_by_key(|step| step.us));
    }
}
