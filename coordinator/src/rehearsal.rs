//! A rehearsal of a rerun: what it would do, by the code that does it, on rows that are only read.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_engine::Workflow;
use flotilla_engine::execution::{Past, RerunOrder, RerunPlan, RerunRefusal, items_kept};
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::{RestoreError, restore, restore_past};
use sqlx::PgConnection;
use thiserror::Error;

use crate::storage::{StorageError, load_with_past};

/// What a rerun would do: of each task the numbers of the visits.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rehearsal {
    /// Visits that would be repeated.
    pub again: BTreeMap<String, Vec<u32>>,
    /// Of tasks with items among these, those of which some items would be kept.
    pub items: BTreeMap<String, ItemsKept>,
    /// Visits that never began, and would.
    pub held_back: BTreeMap<String, Vec<u32>>,
    /// Joins, and tasks that need others, that would wait again.
    pub reopened: BTreeMap<String, Vec<u32>>,
    /// Visits whose end nothing followed, and which would lead on.
    pub followed: BTreeMap<String, Vec<u32>>,
    /// Visits that would stay as they are.
    pub kept: BTreeMap<String, Vec<u32>>,
}

/// Items (or batches) of the visits of a task that would be repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ItemsKept {
    /// Those that would run again.
    pub again: usize,
    /// Those that have succeeded, and would not.
    pub kept: usize,
}

/// Why there is no rehearsal.
#[derive(Debug, Error)]
pub enum RehearsalError {
    /// The database fails, or holds what this version cannot read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The execution does not exist.
    #[error("there is no such execution")]
    UnknownExecution,
    /// The rows, or the definition, are of a version that this one cannot read.
    #[error("the execution cannot be read: {0}")]
    Unreadable(String),
    /// The rerun would be refused.
    #[error(transparent)]
    Refused(#[from] RerunRefusal),
}

/// What a rerun of an execution would do, of one moment.
///
/// # Errors
/// See [`RehearsalError`].
pub async fn rehearse(
    conn: &mut PgConnection,
    id: ExecutionId,
    order: &RerunOrder,
) -> Result<Rehearsal, RehearsalError> {
    let found = load_with_past(conn, id).await?;
    let found = found.ok_or(RehearsalError::UnknownExecution)?;
    let definition = found
        .definition
        .ok_or_else(|| RehearsalError::Unreadable("its definition is not there".to_owned()))?;
    let workflow = definition.compile().map_err(RehearsalError::Unreadable)?;
    let unreadable = |error: RestoreError| RehearsalError::Unreadable(error.to_string());
    let held = restore(&found.execution, Arc::clone(&workflow)).map_err(unreadable)?;
    let past = restore_past(&found.past, &workflow).map_err(unreadable)?;
    let plan = held.execution.plan_rerun(order, &past)?;
    Ok(told(&plan, order, &past, &workflow))
}

fn told(plan: &RerunPlan, order: &RerunOrder, past: &Past, workflow: &Workflow) -> Rehearsal {
    let visits = |runs: &[RunNo]| {
        let mut by_task: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for run in runs.iter().filter_map(|no| past.runs.get(no)) {
            let name = workflow.tasks[run.task.0].name.to_string();
            by_task.entry(name).or_default().push(run.visit);
        }
        by_task
    };
    let kept: Vec<RunNo> = plan
        .kept
        .iter()
        .copied()
        .filter(|no| !plan.followed.contains(no))
        .collect();
    let mut items: BTreeMap<String, ItemsKept> = BTreeMap::new();
    for run in plan.again.iter().filter_map(|no| past.runs.get(no)) {
        if let Some((kept, count)) = items_kept(run, order, past) {
            let name = workflow.tasks[run.task.0].name.to_string();
            let of_task = items.entry(name).or_default();
            of_task.again += count - kept;
            of_task.kept += kept;
        }
    }
    Rehearsal {
        again: visits(&plan.again),
        items,
        held_back: visits(&plan.held_back),
        reopened: visits(&plan.reopened),
        followed: visits(&plan.followed),
        kept: visits(&kept),
    }
}
