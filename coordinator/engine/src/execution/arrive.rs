//! Branches reach tasks: joins collect them, guards are looked at, and what is due is rendered.

use std::sync::Arc;

use flotilla_protocol::RunNo;

use super::MAX_VISITS;
use super::branch::Branch;
use super::changes::TransitionKind;
use super::failure::{ExecutionError, FieldError, kind};
use super::log::RunEntry;
use super::run::{Run, RunStatus};
use super::sight::Sight;
use super::step::{Arrival, Due, Step};
use crate::json::Json;
use crate::scope::{EndStatus, Ended};
use crate::workflow::{Join, TaskIndex};

impl Step<'_> {
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival {
            from,
            to,
            branch,
            exempt,
        } = arrival;
        let arrived = match self.workflow.tasks[to.0].join {
            Some(Join::All) => self.arrive_at_join(to, from, &branch),
            None => self.create_run(to, from, branch),
        };
        let Some(no) = arrived else {
            return;
        };
        if self.closed && !exempt {
            self.hold(no);
        } else {
            self.enter(no, exempt);
        }
    }

    /// Records an arrival; gives the run of the join if it is complete now.
    pub(super) fn arrive_at_join(
        &mut self,
        to: TaskIndex,
        from: Option<(RunNo, TaskIndex)>,
        branch: &Branch,
    ) -> Option<RunNo> {
        let generation = branch.passed.get(&to).copied().unwrap_or(0);
        let waiting = self.execution.live.values().find(|run| {
            run.task == to
                && run.status == RunStatus::Waiting
                && !run.held
                && run.branch.passed.get(&to).copied().unwrap_or(0) == generation
        });
        let no = match waiting.map(|run| run.no) {
            Some(no) => no,
            None if self.execution.visits[to.0] > generation => {
                self.execution.ends.merge(branch, &self.execution.links);
                return None;
            }
            None => self.create_run(to, None, Branch::default())?,
        };
        let links = &self.execution.links;
        let run = self.execution.live.get_mut(&no)?;
        run.branch.merge(branch, links);
        run.unsaved.branch = true;
        if let Some((from_run, from_task)) = from {
            run.caused_by.push(from_run);
            run.arrived.insert(from_task);
        }
        self.changes.touched.insert(no);
        let task = &self.workflow.tasks[to.0];
        let complete = run.arrived.len() >= task.predecessors.len();
        if complete && task.in_cycle {
            *Arc::make_mut(&mut run.branch.passed).entry(to).or_insert(0) += 1;
        }
        let detail = Json::of(
            &serde_json::json!({ "from": from.map(|(run, _)| run), "complete": complete }),
        );
        self.log_run(
            TransitionKind::JoinArrived,
            no,
            RunEntry {
                to: Some("waiting"),
                detail: Some(detail),
                ..RunEntry::default()
            },
        );
        complete.then_some(no)
    }

    pub(super) fn create_run(
        &mut self,
        to: TaskIndex,
        from: Option<(RunNo, TaskIndex)>,
        branch: Branch,
    ) -> Option<RunNo> {
        let execution = &mut *self.execution;
        if execution.visits[to.0] >= MAX_VISITS {
            execution.ends.merge(&branch, &execution.links);
            let name = Arc::clone(&self.workflow.tasks[to.0].name);
            let message = format!("task {name} was visited {MAX_VISITS} times (max_runs_per_task)");
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
        match self.delay_s(run) {
            // What stands beside `fail` runs without it: nothing waits any more.
            Ok(delay_s) if delay_s > 0.0 && !exempt => self.delay(no, delay_s),
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
            return self.end_run(no, Ended::succeeded(Json::null()));
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
