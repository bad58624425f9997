//! What the expressions of one run see, put together once per step and borrowed by each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::ExecutionId;

use super::branch::Branch;
use super::run::Run;
use super::spread::Item;
use super::{Execution, ExecutionStatus};
use crate::json::Json;
use crate::scope::{Ended, ItemView, Scope, System, TaskView};
use crate::variables::Variables;
use crate::workflow::Workflow;

/// The parts of a [`Scope`] that are made rather than borrowed.
pub(super) struct Sight {
    parameters: Json,
    tasks: BTreeMap<Arc<str>, Arc<TaskView>>,
    system: System,
    item: Option<ItemView>,
}

impl Sight {
    /// What a run sees before or after its current attempt.
    pub(super) fn of_run(execution: &Execution, run: &Run) -> Self {
        let mut sight = Self::of_branch(execution, &run.branch);
        sight.system.visit = Some(run.visit);
        sight.system.attempt = Some(run.attempt.max(1));
        if execution.workflow.tasks[run.task.0].is_finally {
            sight.system.status = Some(execution.final_status().word());
        }
        sight.item = run.item.and_then(|item| item_view(execution, &item));
        sight
    }

    /// What an item sees that has no run yet, of a task that is run as `whole`.
    pub(super) fn of_item(execution: &Execution, whole: &Run, item: &Item) -> Self {
        Self {
            item: item_view(execution, item),
            ..Self::of_run(execution, whole)
        }
    }

    /// What the outputs see once the execution has its final status.
    pub(super) fn of_end(execution: &Execution, status: ExecutionStatus) -> Self {
        let mut sight = Self::of_branch(execution, &execution.ends);
        sight.system.status = Some(status.word());
        sight
    }

    /// What an expression sees that belongs to no run.
    pub(super) fn of_branch(execution: &Execution, branch: &Branch) -> Self {
        let mut tasks = BTreeMap::new();
        for (name, seen) in execution.last_ended.iter().chain(branch.tasks.iter()) {
            tasks.insert(Arc::clone(name), Arc::clone(&seen.view));
        }
        Self {
            parameters: execution.parameters.clone(),
            tasks,
            system: System {
                parent_id: execution.parent.map(|parent| parent.execution_id),
                ..system(execution.id, &execution.workflow, execution.created_at)
            },
            item: None,
        }
    }

    /// For the attempt that comes next, where it is not the current one.
    pub(super) fn with_attempt(mut self, attempt: u32) -> Self {
        self.system.attempt = Some(attempt);
        self
    }

    pub(super) fn scope<'a>(&'a self, vars: &'a Variables, ended: Option<&'a Ended>) -> Scope<'a> {
        Scope {
            parameters: &self.parameters,
            vars,
            tasks: &self.tasks,
            system: &self.system,
            item: self.item.as_ref(),
            ended,
        }
    }
}

fn item_view(execution: &Execution, item: &Item) -> Option<ItemView> {
    let spread = execution.spread(item.of)?;
    let batch_size = spread.progress.batch_size;
    Some(ItemView {
        value: spread.list.piece(item.index, batch_size),
        index: item.index,
        is_batch: batch_size.is_some(),
    })
}

/// `system` as it is before the first task.
pub(super) fn system(id: ExecutionId, workflow: &Workflow, created_at: DateTime<Utc>) -> System {
    System {
        execution_id: id,
        workflow: Arc::clone(&workflow.reference),
        version: Arc::clone(&workflow.version),
        started_at: created_at,
        parent_id: None,
        visit: None,
        attempt: None,
        status: None,
        pack: workflow.pack.clone(),
    }
}
