//! Branches reach tasks: guards are looked at, and what is due is rendered.

use std::sync::Arc;

use flotilla_protocol::RunNo;

use super::branch::Branch;
use super::failure::{ExecutionError, FieldError, kind};
use super::run::{Run, RunStatus};
use super::sight::Sight;
use super::step::{Arrival, Due, Step};
use crate::json::Json;
use crate::scope::{EndStatus, Ended};
use crate::workflow::TaskIndex;

impl Step<'_> {
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Branch {
                from,
                to,
                branch,
                exempt,
            } => self.arrive_at(from, to, branch, exempt),
            Arrival::Ended(ended) => self.note_end(&ended),
            Arrival::Decided(no) => self.let_in(no, false),
        }
    }

    fn arrive_at(
        &mut self,
        from: Option<(RunNo, TaskIndex)>,
        to: TaskIndex,
        branch: Branch,
        exempt: bool,
    ) {
        if branch.cut && !exempt && !self.execution.is_draining() {
            // It stood beside `fail`, and other branches go on, or will after a pause.
            self.execution.ends.merge(&branch, &self.execution.links);
            return;
        }
        let arrived = match self.workflow.tasks[to.0].join {
            Some(join) => self.arrive_at_join(join, to, from, &branch),
            None => self.create_run(to, from, branch),
        };
        if let Some(no) = arrived {
            self.let_in(no, exempt);
        }
    }

    /// Lets a run in that is due, or holds it back.
    pub(super) fn let_in(&mut self, no: RunNo, exempt: bool) {
        if exempt && let Some(run) = self.execution.live.get_mut(&no) {
            run.branch.cut = true;
            run.unsaved.branch = true;
        }
        if self.closed && (!exempt || self.execution.status.is_paused()) {
            self.hold(no);
        } else {
            self.enter(no, exempt);
        }
    }

    pub(super) fn create_run(
        &mut self,
        to: TaskIndex,
        from: Option<(RunNo, TaskIndex)>,
        branch: Branch,
    ) -> Option<RunNo> {
        let execution = &mut *self.execution;
        let most = self.workflow.max_runs_per_task;
        if execution.visits[to.0] >= most && !self.workflow.tasks[to.0].is_finally {
            execution.ends.merge(&branch, &execution.links);
            let name = Arc::clone(&self.workflow.tasks[to.0].name);
            let message = format!("task {name} was visited {most} times (max_runs_per_task)");
            self.fail(ExecutionError {
                task: Some(name),
                ..ExecutionError::new(kind::LIMIT_EXCEEDED, message)
            });
            return None;
        }
        execution.visits[to.0] += 1;
        let visit = execution.visits[to.0];
        let no = self.add_run(to, visit, branch);
        let run = self.execution.live.get_mut(&no)?;
        run.caused_by.extend(from.map(|(run, _)| run));
        if self.workflow.tasks[to.0].is_split {
            run.branch.route = no;
        }
        Some(no)
    }

    /// Adds a run that nothing has happened to yet; gives its number.
    pub(super) fn add_run(&mut self, task: TaskIndex, visit: u32, branch: Branch) -> RunNo {
        let execution = &mut *self.execution;
        execution.last_run += 1;
        execution.counts.total += 1;
        execution.counts.active += 1;
        let no = execution.last_run;
        let run = Run::new(no, task, visit, branch, self.now);
        execution.live.insert(no, run);
        self.changes.touched.insert(no);
        no
    }

    /// Lets a run in: guard, then the delay, and what follows it.
    pub(super) fn enter(&mut self, no: RunNo, exempt: bool) {
        let workflow = Arc::clone(&self.workflow);
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let task = &workflow.tasks[run.task.0];
        self.accept_failures(task.index);
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        if let Some(guard) = &task.when {
            let sight = Sight::of_run(self.execution, run);
            match guard.holds(&sight.scope(&run.branch.vars, None)) {
                Ok(true) => {}
                Ok(false) => return self.end_run(no, Ended::without_result(EndStatus::Skipped)),
                Err(error) => {
                    return self
                        .end_run(no, Ended::not_evaluated(&FieldError::new("when", &error)));
                }
            }
        }
        // What stands beside `fail`, or cleans up after a cancel, runs without it: nothing waits any more.
        let is_urgent = exempt || self.execution.is_cancelling(run);
        match self.delay_s(run) {
            Ok(delay_s) if delay_s > 0.0 && !is_urgent => self.delay(no, delay_s),
            Ok(_) => self.begin_run(no, exempt),
            Err(error) => self.end_run(no, Ended::not_evaluated(&error)),
        }
    }

    /// A run begins: with nothing, with its items, or with its next attempt.
    pub(super) fn begin_run(&mut self, no: RunNo, exempt: bool) {
        let workflow = Arc::clone(&self.workflow);
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let task = &workflow.tasks[run.task.0];
        if task.action.is_none() {
            let ended = match &task.parallel {
                Some(parallel) => self.end_of_parallel(run, parallel),
                None => Ended::succeeded(Json::null()),
            };
            return self.end_run(no, ended);
        }
        match &task.items {
            Some(items) if run.item.is_none() => self.enter_items(no, items, exempt),
            Some(_) | None => self.render_or_fail(no, exempt),
        }
    }

    pub(super) fn render_or_fail(&mut self, no: RunNo, exempt: bool) {
        match self.render(no) {
            Ok(()) => self.due.push(Due::Attempt { run: no, exempt }),
            Err(error) => self.end_run(no, Ended::not_evaluated(&error)),
        }
    }

    /// Keeps a run that must not start, since the execution has failed, where a rerun may release it,
    /// or is paused.
    pub(super) fn hold(&mut self, no: RunNo) {
        if let Some(run) = self.execution.live.get_mut(&no) {
            run.held = true;
            run.status = RunStatus::Waiting;
            self.changes.touched.insert(no);
        }
    }
}
