//! What is noted of runs: when they began, and where they stand.

use std::sync::Arc;

use flotilla_engine::execution::{Run, Transition, TransitionKind, kind};
use flotilla_engine::scope::EndStatus;

use super::Player;
use crate::read::value as json;
use crate::seen::SeenRun;

/// Fields that are evaluated when a task has ended.
const AFTER_THE_END: [&str; 4] = ["publish", "decision", "next", "on_"];

impl Player<'_> {
    /// Notes that a run began: with its first job, with its first items, or by itself. Runs of items
    /// are part of the run of their task.
    pub(super) fn note_start(&mut self, transition: &Transition, ended: &[Run]) {
        let Some(task_id) = transition.task_id else {
            return;
        };
        let no = task_id.run();
        let live = self.held.execution.live.get(&no);
        let just_ended = ended.iter().find(|run| run.no == no);
        let began = match transition.kind {
            TransitionKind::TaskDispatched if transition.attempt == Some(1) => live.or(just_ended),
            TransitionKind::TaskStarted => live.or(just_ended).filter(|run| run.spread.is_some()),
            TransitionKind::TaskEnded => just_ended.filter(|run| self.began_without_a_worker(run)),
            TransitionKind::TaskDispatched
            | TransitionKind::ExecutionStarted
            | TransitionKind::TaskRetryScheduled
            | TransitionKind::JoinArrived
            | TransitionKind::ControlApplied
            | TransitionKind::JobResent
            | TransitionKind::ExecutionStatusChanged => None,
        };
        if let Some(run) = began.filter(|run| run.item.is_none()) {
            let name = Arc::clone(&self.held.execution.workflow.tasks[run.task.0].name);
            let at = self.elapsed_s(self.now);
            self.seen.starts.push((no, name, at));
        }
    }

    /// A task without an action, or without an item, begins and ends at once, unless it could not even
    /// begin.
    fn began_without_a_worker(&self, run: &Run) -> bool {
        let task = &self.held.execution.workflow.tasks[run.task.0];
        let has_nothing_to_do =
            task.action.is_none() || task.items.is_some() && run.spread.is_none();
        let Some(ended) = run.ended.as_ref().filter(|_| has_nothing_to_do) else {
            return false;
        };
        let error = json(&ended.error);
        match ended.status {
            EndStatus::Succeeded => true,
            // What follows the end of a task is no part of its beginning.
            EndStatus::Failed => {
                let field = error["field"].as_str().unwrap_or_default();
                AFTER_THE_END.iter().any(|part| field.starts_with(part))
                    || error["kind"] == kind::NO_BRANCH_MATCHED
            }
            EndStatus::TimedOut
            | EndStatus::Cancelled
            | EndStatus::Skipped
            | EndStatus::Omitted => false,
        }
    }

    pub(super) fn note_run(&mut self, run: &Run) {
        if run.item.is_some() {
            return;
        }
        let seen = SeenRun {
            task: Arc::clone(&self.held.execution.workflow.tasks[run.task.0].name),
            status: run.status.word(),
        };
        self.seen.runs.insert(run.no, seen);
    }
}
