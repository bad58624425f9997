//! Tasks that run by how others have ended: ends are noted, the rule decides, and a failure that it
//! accepts waits for the decision.

use std::sync::Arc;

use flotilla_protocol::RunNo;

use super::branch::Branch;
use super::changes::TransitionKind;
use super::failure::ExecutionError;
use super::flow::{Goal, HeldFailure};
use super::log::RunEntry;
use super::run::RunStatus;
use super::step::{Arrival, Step};
use crate::json::Json;
use crate::rule::{Need, Verdict};
use crate::workflow::TaskIndex;

/// The end of a task that others need.
pub(super) struct NeededEnd {
    /// Its run.
    pub run: RunNo,
    pub task: TaskIndex,
    pub need: Need,
    /// What it hands on; `None` for what was omitted.
    pub branch: Option<Branch>,
    /// Whether its branch goes nowhere else.
    pub is_end: bool,
}

/// What becomes of a failure that no transition handles.
enum Fate {
    Unhandled,
    /// A task that needs the failed one may handle it yet.
    Held,
    Handled,
}

impl Step<'_> {
    /// Tells the tasks that need it; where none takes the branch, it ends here.
    pub(super) fn note_end(&mut self, ended: &NeededEnd) {
        let workflow = Arc::clone(&self.workflow);
        let mut is_taken = false;
        let is_final = !workflow.tasks[ended.task.0].may_repeat;
        if is_final {
            self.execution
                .open()
                .goals
                .remove(&Goal::Needed(ended.task));
        }
        for task in &workflow.tasks[ended.task.0].needed_by {
            if self.execution.open().undecided.contains(task) {
                self.note_need(*task, ended, is_final);
                is_taken = true;
            }
        }
        if let Some(branch) = &ended.branch
            && !is_taken
            && ended.is_end
        {
            self.execution.ends.merge(branch, &self.execution.links);
        }
    }

    /// How one of the tasks that `task` needs has ended; for good, if that `is_final`.
    fn note_need(&mut self, task: TaskIndex, ended: &NeededEnd, is_final: bool) {
        let Some(no) = self.needs_run(task) else {
            return;
        };
        let links = &self.execution.links;
        let Some(run) = self.execution.live.get_mut(&no) else {
            return;
        };
        if let Some(branch) = &ended.branch {
            // What lies behind belongs to no route: there is one run for all of them.
            run.branch.merge(branch, links);
            run.caused_by.push(ended.run);
        }
        run.needed.insert(ended.task, ended.need);
        if is_final {
            run.arrived.insert(ended.task);
        }
        run.unsaved.branch = true;
        self.changes.touched.insert(no);
        let from = ended.branch.as_ref().map(|_| ended.run);
        self.decide(no, ended.task, from);
    }

    /// A task that nothing alive can reach: whoever needs it waits no more.
    pub(super) fn settle_needed(&mut self, needed: TaskIndex) {
        self.execution.open().goals.remove(&Goal::Needed(needed));
        let needing = self.workflow.tasks[needed.0].needed_by.clone();
        for task in needing {
            if !self.execution.open().undecided.contains(&task) {
                continue;
            }
            let Some(no) = self.needs_run(task) else {
                continue;
            };
            let Some(run) = self.execution.live.get_mut(&no) else {
                continue;
            };
            if !run.arrived.insert(needed) {
                continue;
            }
            run.needed.entry(needed).or_insert(Need::Omitted);
            run.unsaved.branch = true;
            self.changes.touched.insert(no);
            self.decide(no, needed, None);
        }
    }

    /// The run of a task with `needs`, as it waits.
    fn needs_run(&mut self, task: TaskIndex) -> Option<RunNo> {
        if let Some(no) = self.execution.open().needs.get(&task) {
            return Some(*no);
        }
        let no = self.create_run(task, None, Branch::default())?;
        self.execution.open().add_needs(task, no);
        Some(no)
    }

    fn decide(&mut self, no: RunNo, needed: TaskIndex, from: Option<RunNo>) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let Some(needs) = &self.workflow.tasks[run.task.0].needs else {
            return;
        };
        let verdict = run.verdict(needs);
        let detail = Json::of(&serde_json::json!({
            "from": from,
            "task": &*self.workflow.tasks[needed.0].name,
            "status": run.needed.get(&needed).map(|need| need.word()),
            "complete": verdict == Verdict::Runs,
        }));
        self.log_run(
            TransitionKind::JoinArrived,
            no,
            RunEntry {
                to: Some("waiting"),
                detail: Some(detail),
                ..RunEntry::default()
            },
        );
        match verdict {
            Verdict::Open => {}
            Verdict::Runs => {
                self.execution.open().remove(no);
                self.inherit(no);
                self.arrivals.push_back(Arrival::Decided(no));
            }
            Verdict::Omitted => self.omit(no),
        }
    }

    /// Where none of the needed tasks has run there is no branch to go on with: it sees what the branches
    /// that have ended left, the first variables at least.
    fn inherit(&mut self, no: RunNo) {
        let execution = &mut *self.execution;
        let Some(run) = execution.live.get_mut(&no) else {
            return;
        };
        if run.caused_by.is_empty() {
            run.branch.merge(&execution.ends, &execution.links);
        }
    }

    /// A task with `needs` was omitted: those that need it are told, and failures that only it would
    /// have handled count.
    pub(super) fn note_omission(&mut self, no: RunNo, task: TaskIndex) {
        self.execution.flow.omitted.insert(task);
        if !self.workflow.tasks[task.0].needed_by.is_empty() {
            self.arrivals.push_back(Arrival::Ended(Box::new(NeededEnd {
                run: no,
                task,
                need: Need::Omitted,
                branch: None,
                is_end: false,
            })));
        }
        let held = std::mem::take(&mut self.execution.flow.held_failures);
        for failure in held {
            match self.fate(failure.task) {
                Fate::Held => self.execution.flow.held_failures.push(failure),
                Fate::Handled => {}
                Fate::Unhandled => self.fail(failure.error),
            }
        }
    }

    /// A task has failed, and no transition handles that.
    pub(super) fn fail_or_hold(&mut self, task: TaskIndex, error: ExecutionError) {
        match self.fate(task) {
            Fate::Handled => {}
            Fate::Held => {
                let held = &mut self.execution.flow.held_failures;
                held.push(HeldFailure { task, error });
            }
            Fate::Unhandled => self.fail(error),
        }
    }

    fn fate(&mut self, failed: TaskIndex) -> Fate {
        let workflow = Arc::clone(&self.workflow);
        let mut fate = Fate::Unhandled;
        for task in &workflow.tasks[failed.0].needed_by {
            let needs = workflow.tasks[task.0].needs.as_ref();
            if !needs.is_some_and(|needs| needs.rule.accepts_failure())
                || self.execution.flow.omitted.contains(task)
            {
                continue;
            }
            if !self.waits_to_run(*task) {
                return Fate::Handled;
            }
            fate = Fate::Held;
        }
        fate
    }

    /// Whether a task with `needs` that was not omitted has not been let in.
    fn waits_to_run(&mut self, task: TaskIndex) -> bool {
        if self.execution.open().undecided.contains(&task) {
            return true;
        }
        let is_decided = |arrival: &Arrival| matches!(arrival, Arrival::Decided(_));
        let decided = self.arrivals.iter().filter(|arrival| is_decided(arrival));
        let mut queued = decided.filter_map(|arrival| match arrival {
            Arrival::Decided(no) => self.execution.live.get(no),
            Arrival::Branch { .. } | Arrival::Ended(_) => None,
        });
        let mut live = self.execution.live.values();
        queued.any(|run| run.task == task)
            || live.any(|run| run.task == task && run.held && run.status == RunStatus::Waiting)
    }

    /// A task with `needs` is let in: failures that its rule accepts are handled.
    pub(super) fn accept_failures(&mut self, task: TaskIndex) {
        let Some(needs) = &self.workflow.tasks[task.0].needs else {
            return;
        };
        if needs.rule.accepts_failure() {
            let held = &mut self.execution.flow.held_failures;
            held.retain(|failure| !needs.tasks.contains(&failure.task));
        }
    }
}
