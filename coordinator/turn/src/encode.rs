//! From executions and their changes to rows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use flotilla_engine::execution::{
    Branch, Changes, Execution, ExecutionError, Generation, Run, TimerChange,
};
use flotilla_engine::scope::{EndStatus, Ended};
use flotilla_engine::{Json, TaskIndex};
use flotilla_protocol::RunNo;
use serde::{Deserialize, Serialize};

use crate::cache::Held;
use crate::rows::{
    Commit, ExecutionRow, ExecutionStateRow, PartitionNo, TaskRow, TimerRow, TransitionRow,
    VariableRow,
};

/// A branch as rows show it: which write each name, and which run each task.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct BranchJson {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, RunNo>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last_ended: BTreeMap<String, RunNo>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed: BTreeMap<String, u32>,
    /// Of a run: when its attempts together have had their time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// The run of the split that opened its route.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub route: RunNo,
    /// Whether nothing follows, since it stood beside `fail`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
    /// Of a run: the one that it repeats, or goes on for, by a rerun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<RunNo>,
    /// Of the execution: what holds since its last rerun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun: Option<GenerationJson>,
    /// Of a task with `needs`: how those have ended that have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needed: BTreeMap<String, String>,
    /// Of the execution: how many generations of each join behind a split have run, by route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fired: Vec<(String, RunNo, u32)>,
    /// Of the execution: tasks with `needs` that were omitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
    /// Of the execution: failures that a task with `needs` may handle yet, with the task that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_failures: Vec<(String, ExecutionError)>,
}

/// What holds of an execution since its last rerun, as its row shows it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GenerationJson {
    pub no: u32,
    pub began_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub finals: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ExecutionError>,
}

impl GenerationJson {
    fn of(generation: &Generation) -> Option<Self> {
        let parameters = generation.parameters.as_ref();
        (generation.no > 0).then(|| Self {
            no: generation.no,
            began_at: generation.began_at,
            finals: generation.finals,
            parameters: parameters
                .map(|given| serde_json::from_str(given.text()).unwrap_or_default()),
            errors: generation.errors.clone(),
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &RunNo) -> bool {
    *number == 0
}

impl BranchJson {
    fn of(execution: &Execution, branch: &Branch) -> Self {
        let name = |index: usize| execution.workflow.tasks[index].name.to_string();
        Self {
            vars: branch
                .vars
                .iter()
                .map(|write| (write.name.to_string(), write.no))
                .collect(),
            tasks: branch
                .tasks
                .iter()
                .map(|(name, seen)| (name.to_string(), seen.run))
                .collect(),
            passed: branch
                .passed
                .iter()
                .map(|(join, count)| (name(join.0), *count))
                .collect(),
            route: branch.route,
            cut: branch.cut,
            ..Self::default()
        }
    }

    /// What a run sees, and of a task with `needs` what it knows of those. An item sees what the task
    /// as a whole sees.
    fn of_run(execution: &Execution, run: &Run) -> Self {
        if run.item.is_some() {
            return Self::default();
        }
        let name = |index: &TaskIndex| execution.workflow.tasks[index.0].name.to_string();
        let needed = run.needed.iter();
        Self {
            needed: needed
                .map(|(task, need)| (name(task), need.word().to_owned()))
                .collect(),
            until: run.until,
            again: run.again,
            ..Self::of(execution, &run.branch)
        }
    }

    /// What the ended branches left.
    fn of_ends(execution: &Execution) -> Self {
        let name = |index: &TaskIndex| execution.workflow.tasks[index.0].name.to_string();
        let flow = &execution.flow;
        Self {
            last_ended: execution
                .last_ended
                .iter()
                .map(|(name, seen)| (name.to_string(), seen.run))
                .collect(),
            fired: flow
                .fired
                .iter()
                .map(|((join, route), count)| (name(join), *route, *count))
                .collect(),
            omitted: flow.omitted.iter().map(name).collect(),
            rerun: GenerationJson::of(&execution.generation),
            held_failures: flow
                .held_failures
                .iter()
                .map(|held| (name(&held.task), held.error.clone()))
                .collect(),
            ..Self::of(execution, &execution.ends)
        }
    }
}

/// What was known of an execution before the turn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Before {
    /// Whether its row is new.
    pub is_new: bool,
    /// Its newest run.
    pub last_run: RunNo,
    /// The length of its list of errors.
    pub errors: usize,
    /// How many reruns there had been.
    pub generation: u32,
    /// Whether it had an output.
    pub has_output: bool,
    /// Whether its list of reply addresses has changed.
    pub reply_to_changed: bool,
}

/// Adds the rows of one execution to a commit, and marks its parts as saved.
pub(crate) fn add_execution(
    commit: &mut Commit,
    held: &mut Held,
    before: Before,
    changes: &Changes,
    now: DateTime<Utc>,
) {
    let state = state_row(held, before);
    if before.is_new {
        commit.new_executions.push(execution_row(held, state));
    } else {
        commit.executions.push(state);
    }
    let execution = &mut held.execution;
    for no in &changes.touched {
        let Some(mut run) = execution.live.remove(no) else {
            continue;
        };
        add_task(commit, execution, &run, before.last_run);
        run.unsaved = flotilla_engine::execution::Unsaved::default();
        execution.live.insert(*no, run);
    }
    for run in &changes.ended {
        add_task(commit, execution, run, before.last_run);
    }
    let execution_id = execution.id;
    commit
        .variables
        .extend(changes.writes.iter().map(|write| VariableRow {
            execution_id,
            write_no: write.no,
            name: write.name.to_string(),
            value: write.value.clone(),
            previous_write_no: write.previous,
        }));
    commit
        .transitions
        .extend(changes.transitions.iter().map(|transition| TransitionRow {
            execution_id,
            seq: transition.seq,
            at: now,
            kind: transition.kind,
            task_id: transition.task_id,
            attempt: transition.attempt,
            from_status: transition.from,
            to_status: transition.to,
            detail: transition.detail.clone(),
        }));
    add_timers(commit, held, before, changes);
}

fn add_task(commit: &mut Commit, execution: &Execution, run: &Run, last_run: RunNo) {
    let is_new = run.no > last_run;
    let row = task_row(execution, run, is_new);
    if is_new {
        commit.new_tasks.push(row);
    } else {
        commit.tasks.push(row);
    }
}

/// Of several changes to the timer of one run only the last counts.
fn add_timers(commit: &mut Commit, held: &Held, before: Before, changes: &Changes) {
    let mut last: BTreeMap<RunNo, &TimerChange> = BTreeMap::new();
    for change in &changes.timers {
        let (TimerChange::Set { run, .. } | TimerChange::Clear { run }) = change;
        last.insert(*run, change);
    }
    for change in last.into_values() {
        match *change {
            TimerChange::Set { run, kind, due } => commit.timers_set.push(TimerRow {
                execution_id: held.execution.id,
                run,
                partition: held.partition,
                kind,
                due_at: due,
            }),
            TimerChange::Clear { run } if run > before.last_run || before.is_new => {}
            TimerChange::Clear { run } => commit.timers_cleared.push((held.execution.id, run)),
        }
    }
}

fn execution_row(held: &Held, state: ExecutionStateRow) -> ExecutionRow {
    let execution = &held.execution;
    ExecutionRow {
        definition_hash: execution.workflow.hash,
        workflow: execution.workflow.reference.to_string(),
        version: execution.workflow.version.to_string(),
        partition: held.partition,
        parent: execution.parent,
        timeout_s: execution.timeout,
        idempotency_key: held.idempotency_key.clone(),
        tags: Json::of(&held.tags),
        parameters: execution.parameters.clone(),
        reply_to: Json::of(&held.reply_to),
        traceparent: held.traceparent.as_deref().map(str::to_owned),
        created_at: execution.created_at,
        state,
    }
}

pub(crate) fn state_row(held: &Held, before: Before) -> ExecutionStateRow {
    let execution = &held.execution;
    let ends = BranchJson::of_ends(execution);
    let errors_changed = before.is_new
        || execution.errors.len() != before.errors
        || execution.generation.no != before.generation;
    // A rerun takes the output away; the row keeps what it has unless it is given something.
    let gone = || before.has_output.then(Json::null);
    ExecutionStateRow {
        execution_id: execution.id,
        status: execution.status.word(),
        counts: execution.counts,
        visits: execution.visits.clone(),
        last_run: execution.last_run,
        last_write: execution.last_write,
        last_seq: execution.last_seq,
        live_runs: execution.live.keys().copied().collect(),
        ends: Json::of(&ends),
        errors: errors_changed.then(|| Json::of(&execution.errors)),
        output: execution.output.clone().or_else(gone),
        reply_to: before.reply_to_changed.then(|| Json::of(&held.reply_to)),
        finished_at: execution.finished_at,
    }
}

pub(crate) fn task_row(execution: &Execution, run: &Run, is_new: bool) -> TaskRow {
    let task = &execution.workflow.tasks[run.task.0];
    let end = run.ended.as_ref().filter(|_| run.unsaved.end);
    let has_action = task.action.is_some();
    let spread = run.spread.as_deref();
    TaskRow {
        execution_id: execution.id,
        run: run.no,
        task_id: execution.task_id(run.no),
        task: task.name.to_string(),
        visit: run.visit,
        created_at: run.created_at,
        status: run.status.word(),
        attempt: run.attempt,
        max_attempts: run.max_attempts,
        starts: run.starts,
        held: run.held,
        action: run.action.as_deref().map(str::to_owned),
        // A child is in no pool: so a row tells that it is one.
        pool: (has_action && !task.is_workflow).then(|| task.pool.to_string()),
        timeout_s: run.timeout,
        input: run.input.as_ref().filter(|_| run.unsaved.input).cloned(),
        secrets: run.secrets.as_ref().filter(|_| run.unsaved.input).cloned(),
        branch: (is_new || run.unsaved.branch).then(|| match run.item {
            // An item sees what the task as a whole sees.
            Some(_) => Json::of(&BranchJson::default()),
            None => Json::of(&BranchJson::of_run(execution, run)),
        }),
        item_of: run.item.map(|item| item.of),
        item_index: run.item.map(|item| item.index),
        batch_size: run.item.and_then(|item| item.batch_size),
        items: spread
            .filter(|_| run.unsaved.items)
            .map(|spread| spread.list.to_stored()),
        item_progress: spread.map(|spread| Json::of(&spread.progress)),
        caused_by: run.caused_by.clone(),
        arrived: run
            .arrived
            .iter()
            .filter_map(|index| u32::try_from(index.0).ok())
            .collect(),
        worker: run.worker.as_deref().map(str::to_owned),
        result: end
            .filter(|end| has_action && has_result(end))
            .map(|end| end.result.clone()),
        error: end.map(|end| end.error.clone()),
        dispatched_at: run.dispatched_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
    }
}

/// A success has a result even if it is null; a failure without one has none.
fn has_result(end: &Ended) -> bool {
    end.status == EndStatus::Succeeded || !end.result.is_null()
}

/// The partition of every row of a commit is in its fence; checked in debug builds.
pub(crate) fn is_fenced(commit: &Commit) -> bool {
    let fenced =
        |partition: PartitionNo| commit.partitions.iter().any(|p| p.partition == partition);
    commit
        .new_executions
        .iter()
        .all(|row| fenced(row.partition))
        && commit.timers_set.iter().all(|row| fenced(row.partition))
        && commit.jobs.iter().all(|job| fenced(job.partition))
        && commit.replies.iter().all(|reply| fenced(reply.partition))
}
