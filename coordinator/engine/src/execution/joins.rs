//! Joins: branches arrive, and the join runs once for each route and generation.

use std::sync::Arc;

use flotilla_protocol::RunNo;

use super::branch::Branch;
use super::changes::TransitionKind;
use super::failure::{ExecutionError, kind};
use super::flow::{JoinKey, join_key};
use super::log::RunEntry;
use super::past::is_complete;
use super::step::Step;
use crate::json::Json;
use crate::workflow::{Join, TaskIndex};

impl Step<'_> {
    /// Records an arrival; gives the run of the join if it is complete now.
    pub(super) fn arrive_at_join(
        &mut self,
        join: Join,
        to: TaskIndex,
        from: Option<(RunNo, TaskIndex)>,
        branch: &Branch,
    ) -> Option<RunNo> {
        let key = JoinKey {
            task: to,
            route: branch.route,
            generation: branch.passed(to),
        };
        let waiting = self.execution.open().joins.get(&key).copied();
        let no = match waiting {
            Some(no) => no,
            None if self.has_fired(key) => {
                self.execution.ends.merge(branch, &self.execution.links);
                return None;
            }
            None => match self.open_join(key) {
                Some(no) => no,
                None => {
                    // It may not be visited again: the branch ends here.
                    self.execution.ends.merge(branch, &self.execution.links);
                    return None;
                }
            },
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
        let complete = is_complete(&self.workflow.tasks[to.0], join, run);
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
        if complete {
            self.fire(no);
        }
        complete.then_some(no)
    }

    /// The first arrival.
    fn open_join(&mut self, key: JoinKey) -> Option<RunNo> {
        let branch = Branch {
            route: key.route,
            ..Branch::default()
        };
        let no = self.create_run(key.task, None, branch)?;
        self.execution.open().add_join(key, no);
        Some(no)
    }

    /// Whether a join has run for such arrivals.
    fn has_fired(&self, key: JoinKey) -> bool {
        let execution = &*self.execution;
        let behind_split = self.workflow.tasks[key.task.0].behind_split;
        let generations = if behind_split || execution.generation.no > 0 {
            let route = if behind_split { key.route } else { 0 };
            let fired = execution.flow.fired.get(&(key.task, route));
            fired.copied().unwrap_or(0)
        } else {
            execution.visits[key.task.0]
        };
        generations > key.generation
    }

    /// A join waits no more: it is about to run.
    pub(super) fn fire(&mut self, no: RunNo) {
        self.execution.open().remove(no);
        let Some(run) = self.execution.live.get_mut(&no) else {
            return;
        };
        let key = join_key(run);
        let task = &self.workflow.tasks[key.task.0];
        if task.in_cycle {
            *Arc::make_mut(&mut run.branch.passed)
                .entry(key.task)
                .or_insert(0) += 1;
            run.unsaved.branch = true;
        }
        self.changes.touched.insert(no);
        if task.behind_split || self.execution.generation.no > 0 {
            let route = if task.behind_split { key.route } else { 0 };
            let fired = &mut self.execution.flow.fired;
            fired.insert((key.task, route), key.generation + 1);
        }
    }

    /// A join that can no longer be complete fails the execution.
    pub(super) fn fail_join(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let task = &self.workflow.tasks[run.task.0];
        let name = Arc::clone(&task.name);
        let missing: Vec<&str> = task
            .predecessors
            .iter()
            .filter(|index| !run.arrived.contains(index) && !task.is_fork(**index))
            .map(|index| &*self.workflow.tasks[index.0].name)
            .collect();
        let missing = missing.join(", ");
        let message = match task.join {
            Some(Join::Count(count)) => {
                let arrived = run.arrived.len();
                format!(
                    "join {name} can no longer be complete: {arrived} of {count} arrived, and \
                     nothing leads to it from {missing}"
                )
            }
            Some(Join::All | Join::Active) | None => {
                format!("join {name} can no longer be complete: nothing leads to it from {missing}")
            }
        };
        let error = ExecutionError {
            task: Some(name),
            task_id: Some(self.execution.task_id(no)),
            ..ExecutionError::new(kind::UNREACHABLE_JOIN, message)
        };
        self.omit(no);
        self.fail(error);
    }
}
