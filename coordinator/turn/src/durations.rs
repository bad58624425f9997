//! How long the attempts of each task take: only jobs of those that are brief travel in bundles.
//!
//! Whoever has a bundle keeps all of its jobs, so those behind one that takes long would wait for it,
//! though another worker is idle. And a message saved is worth nothing beside a job of a second.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use flotilla_engine::execution::Execution;
use flotilla_engine::{DefinitionHash, TaskIndex};
use flotilla_protocol::RunNo;
use flotilla_protocol::message::TaskCompleted;

use crate::decision::Deciding;

/// Seconds below which an attempt is brief.
const BRIEF_S: f64 = 0.5;
/// What is left of the longest duration with each attempt that is shorter: a task of which one attempt has
/// taken a minute is brief again after 46 that were.
const FADING: f64 = 0.9;
/// Tasks that are remembered; then all begin anew.
const MAX_TASKS: usize = 10_000;

/// The longest of the last attempts of each task, in seconds.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    longest_s: HashMap<(DefinitionHash, TaskIndex), f64>,
}

impl Durations {
    fn note(&mut self, task: (DefinitionHash, TaskIndex), seconds: f64) {
        if self.longest_s.len() >= MAX_TASKS && !self.longest_s.contains_key(&task) {
            self.longest_s.clear();
        }
        let longest_s = self.longest_s.entry(task).or_insert(seconds);
        *longest_s = (*longest_s * FADING).max(seconds);
    }

    /// Whether attempts of the task of a run are brief, as far as any have ended here.
    pub fn is_brief(&self, execution: &Execution, run: RunNo) -> bool {
        task_of(execution, run)
            .and_then(|task| self.longest_s.get(&task))
            .is_some_and(|longest_s| *longest_s < BRIEF_S)
    }
}

impl Deciding<'_> {
    /// Learns how long an attempt took, where its worker tells.
    pub(crate) fn note_duration(&mut self, completed: &TaskCompleted) {
        let Some(seconds) = seconds_between(completed.started_at, completed.finished_at) else {
            return;
        };
        let Some(held) = self.turns.cache.use_mut(completed.execution_id) else {
            return;
        };
        if let Some(task) = task_of(&held.execution, completed.task_id.run()) {
            self.turns.publications.durations.note(task, seconds);
        }
    }
}

fn task_of(execution: &Execution, run: RunNo) -> Option<(DefinitionHash, TaskIndex)> {
    let run = execution.live.get(&run)?;
    Some((execution.workflow.hash, run.task))
}

fn seconds_between(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<f64> {
    Some((to? - from?).as_seconds_f64())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const TASK: (DefinitionHash, TaskIndex) = (DefinitionHash([0; 32]), TaskIndex(0));

    fn is_brief(durations: &Durations) -> bool {
        durations.longest_s[&TASK] < BRIEF_S
    }

    #[test]
    fn one_attempt_that_takes_long_counts_for_many_that_do_not() {
        let mut durations = Durations::default();
        durations.note(TASK, 0.01);
        assert!(is_brief(&durations));
        durations.note(TASK, 60.0);
        let brief = (1..100).take_while(|_| {
            durations.note(TASK, 0.01);
            !is_brief(&durations)
        });
        assert_eq!(brief.count(), 45);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut durations = Durations::default();
        for no in 0..=MAX_TASKS {
            durations.note((TASK.0, TaskIndex(no)), 0.01);
        }
        assert_eq!(durations.longest_s.len(), 1);
    }

    #[test]
    fn a_duration_needs_both_times() {
        let now = Utc::now();
        let before = now - TimeDelta::milliseconds(250);
        assert_eq!(seconds_between(Some(before), Some(now)), Some(0.25));
        assert_eq!(seconds_between(None, Some(now)), None);
        assert_eq!(seconds_between(Some(now), None), None);
    }
}
