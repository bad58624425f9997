//! How a parallel task ends: with the results of its children, or failed if one of them has failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::run::Run;
use super::step::Step;
use crate::json::Json;
use crate::scope::{EndStatus, Ended, TaskView};
use crate::workflow::{Parallel, TaskIndex};

impl Step<'_> {
    /// The end of a run for which so much has arrived that it has one.
    pub(super) fn end_of_parallel(&self, run: &Run, parallel: &Parallel) -> Ended {
        if run.arrived.contains(&parallel.fork) {
            return self.end_of_fork(run, parallel.fork);
        }
        let mut results = BTreeMap::new();
        let mut failed = BTreeMap::new();
        for (name, child) in &parallel.children {
            let Some(view) = self.seen(run, *child) else {
                continue;
            };
            results.insert(&**name, view.result.raw());
            let is_failure = match view.status {
                EndStatus::Failed | EndStatus::TimedOut | EndStatus::Cancelled => true,
                EndStatus::Succeeded | EndStatus::Skipped | EndStatus::Omitted => false,
            };
            if is_failure && !self.workflow.tasks[child.0].ignore_failure {
                failed.insert(&**name, view.error.raw());
            }
        }
        let result = Json::of(&results);
        if failed.is_empty() {
            return Ended::succeeded(result);
        }
        Ended::children_failed(result, &failed, parallel.children.len())
    }

    /// The children were not started: the guard was false, or an expression could not be evaluated.
    fn end_of_fork(&self, run: &Run, fork: TaskIndex) -> Ended {
        let view = self.seen(run, fork);
        let status = view.map_or(EndStatus::Skipped, |view| view.status);
        Ended {
            error: view.map_or_else(Json::null, |view| view.error.clone()),
            ..Ended::without_result(status)
        }
    }

    /// What the branch of a run sees of a task that has led to it.
    fn seen<'a>(&self, run: &'a Run, task: TaskIndex) -> Option<&'a Arc<TaskView>> {
        let name = &self.workflow.tasks[task.0].name;
        run.branch.tasks.get(name).map(|seen| &seen.view)
    }
}
