//! What is noted of runs: when they began, and where they stand.

use std::sync::Arc;

use flotilla_engine::execution::{ChildStart, Execution, Run, Transition, TransitionKind, kind};
use flotilla_engine::scope::EndStatus;
use flotilla_protocol::ExecutionId;

use super::Player;
use crate::read::value as json;
use crate::seen::{Delivery, SeenRun};

/// Fields that are evaluated when a task has ended.
const AFTER_THE_END: [&str; 4] = ["publish", "decision", "next", "on_"];

impl Player<'_> {
    /// Notes that a run began: with its first job, with its first items, or by itself. Runs of items
    /// are part of the run of their task.
    pub(super) fn note_start(&mut self, id: ExecutionId, transition: &Transition, ended: &[Run]) {
        let Some(task_id) = transition.task_id else {
            return;
        };
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let execution = &member.held.execution;
        let no = task_id.run();
        let live = execution.live.get(&no);
        let just_ended = ended.iter().find(|run| run.no == no);
        let began = match transition.kind {
            TransitionKind::TaskDispatched if transition.attempt == Some(1) => live.or(just_ended),
            TransitionKind::TaskStarted => live.or(just_ended).filter(|run| run.spread.is_some()),
            TransitionKind::TaskEnded => {
                just_ended.filter(|run| began_without_a_worker(execution, run))
            }
            TransitionKind::TaskDispatched
            | TransitionKind::ExecutionStarted
            | TransitionKind::TaskRetryScheduled
            | TransitionKind::JoinArrived
            | TransitionKind::ControlApplied
            | TransitionKind::JobResent
            | TransitionKind::ExecutionStatusChanged => None,
        };
        if let Some(run) = began.filter(|run| run.item.is_none()) {
            let name = member.shown(&execution.workflow.tasks[run.task.0].name);
            let at = self.elapsed_s(self.now);
            self.seen.starts.push((member.number(no), name, at));
        }
    }

    pub(super) fn note_run(&mut self, id: ExecutionId, run: &Run) {
        let Some(member) = self.members.get(&id).filter(|_| run.item.is_none()) else {
            return;
        };
        let tasks = &member.held.execution.workflow.tasks;
        let seen = SeenRun {
            task: member.shown(&tasks[run.task.0].name),
            status: run.status.word(),
        };
        self.seen.runs.insert(member.number(run.no), seen);
    }

    /// A child is to its parent what a job is that a worker has.
    pub(super) fn note_child(&mut self, child: &ChildStart) {
        let Some(member) = self.members.get(&child.parent.execution_id) else {
            return;
        };
        let execution = &member.held.execution;
        let Some(run) = execution.live.get(&child.parent.run) else {
            return;
        };
        let delivery = Delivery {
            task: member.shown(&execution.workflow.tasks[run.task.0].name),
            run: member.number(run.no),
            item: run.item.map(|item| item.index),
            attempt: run.attempt,
            action: Arc::clone(&child.workflow),
            input: json(&child.parameters),
            from_s: self.elapsed_s(self.now),
            to_s: None,
        };
        let position = self.seen.deliveries.len();
        self.seen.deliveries.push(delivery);
        if let Some(member) = self.members.get_mut(&child.id) {
            member.delivery = Some(position);
        }
    }

    pub(super) fn note_end_of_child(&mut self, id: ExecutionId) {
        let now = self.elapsed_s(self.now);
        let member = self.members.get(&id);
        if let Some(position) = member.and_then(|member| member.delivery) {
            self.seen.deliveries[position].to_s = Some(now);
        }
    }
}

/// A task without an action, or without an item, begins and ends at once, unless it could not even
/// begin.
fn began_without_a_worker(execution: &Execution, run: &Run) -> bool {
    let task = &execution.workflow.tasks[run.task.0];
    let has_nothing_to_do = task.action.is_none() || task.items.is_some() && run.spread.is_none();
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
        EndStatus::TimedOut | EndStatus::Cancelled | EndStatus::Skipped | EndStatus::Omitted => {
            false
        }
    }
}
