//! The arguments of `commit_turn_v4`: one array for each column of each table.

use std::sync::OnceLock;

use flotilla_engine::Json;
use flotilla_engine::execution::Counts;
use flotilla_turn::rows::{Commit, ExecutionRow, ExecutionStateRow, IgnoredRow, TaskRow};
use serde::Serialize;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::column::{Call, Jsonb, NumberList, bigint, integer};
use super::outbox::outbox_rows;

/// The statement that commits a turn.
static STATEMENT: OnceLock<String> = OnceLock::new();

/// The statement that commits a turn, and its arguments.
pub(super) fn commit_call(commit: &Commit) -> Result<(&'static str, PgArguments), BoxDynError> {
    let mut call = Call::new(&STATEMENT, "commit_turn_v4", expected_bytes(commit));
    add_fence(&mut call, commit)?;
    add_starts(&mut call, commit)?;
    add_created_executions(&mut call, &commit.new_executions)?;
    add_executions(&mut call, commit)?;
    add_created_tasks(&mut call, &commit.new_tasks)?;
    add_tasks(&mut call, commit)?;
    add_task_times(&mut call, commit)?;
    add_items(&mut call, commit)?;
    add_variables(&mut call, commit)?;
    add_transitions(&mut call, commit)?;
    add_timers(&mut call, commit)?;
    add_outbox(&mut call, commit)?;
    call.value("ignored", ignored(&commit.ignored)?.as_deref().map(Jsonb))?;
    Ok(call.finish())
}

/// Bytes to reserve, without the JSON.
fn expected_bytes(commit: &Commit) -> usize {
    let tasks = commit.new_tasks.len() + commit.tasks.len();
    let executions = commit.new_executions.len() + commit.executions.len();
    4096 + 512 * (tasks + executions) + 192 * commit.transitions.len()
}

fn add_fence(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let fence = || commit.partitions.iter();
    call.value("this_turn_id", commit.turn_id)?;
    call.value("lease_seconds", commit.lease_s)?;
    call.column("fence_partitions", fence().map(|f| f.partition))?;
    call.column("fence_epochs", fence().map(|f| f.epoch))?;
    call.column("fence_turns", fence().map(|f| f.turn))?;
    call.column(
        "fence_dispatched_through",
        fence().map(|f| f.dispatched_through),
    )
}

fn add_starts(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let starts = || commit.starts.iter();
    call.column("start_execution_ids", starts().map(|s| s.execution_id.0))?;
    call.sparse(
        "start_idempotency_keys",
        starts().map(|s| s.idempotency_key.as_deref()),
    )?;
    call.column("start_workflows", starts().map(|s| s.workflow.as_str()))?;
    call.column("start_partitions", starts().map(|s| s.partition))
}

fn add_created_executions(call: &mut Call, new: &[ExecutionRow]) -> Result<(), BoxDynError> {
    let new = || new.iter();
    call.column(
        "created_definition_hashes",
        new().map(|e| &e.definition_hash.0[..]),
    )?;
    call.column("created_workflows", new().map(|e| e.workflow.as_str()))?;
    call.column("created_versions", new().map(|e| e.version.as_str()))?;
    call.column("created_partitions", new().map(|e| e.partition))?;
    call.sparse(
        "created_idempotency_keys",
        new().map(|e| e.idempotency_key.as_deref()),
    )?;
    call.column("created_tags", new().map(|e| Jsonb::from(&e.tags)))?;
    call.column(
        "created_parameters",
        new().map(|e| Jsonb::from(&e.parameters)),
    )?;
    call.sparse(
        "created_traceparents",
        new().map(|e| e.traceparent.as_deref()),
    )?;
    call.column("created_execution_ats", new().map(|e| e.created_at))?;
    call.sparse(
        "created_parent_execution_ids",
        new().map(|e| e.parent.map(|parent| parent.execution_id.0)),
    )?;
    call.sparse(
        "created_parent_runs",
        new().map(|e| e.parent.map(|parent| integer(parent.run))),
    )?;
    call.sparse("created_timeouts", new().map(|e| e.timeout_s))
}

/// New executions first, then those that were there before.
fn add_executions(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let states = || {
        let new = commit.new_executions.iter().map(|e| &e.state);
        new.chain(&commit.executions)
    };
    // A new row's answers go where its own column says, not where the part that changes does.
    let reply_tos = commit
        .new_executions
        .iter()
        .map(|e| Some(&e.reply_to))
        .chain(commit.executions.iter().map(|e| e.reply_to.as_ref()));
    call.column("execution_ids", states().map(|e| e.execution_id.0))?;
    call.column("execution_statuses", states().map(|e| e.status))?;
    call.column("execution_counts", states().flat_map(|e| counts(&e.counts)))?;
    call.column("execution_visits", states().map(|e| NumberList(&e.visits)))?;
    call.column("execution_last_runs", states().map(|e| integer(e.last_run)))?;
    call.column(
        "execution_last_writes",
        states().map(|e| bigint(e.last_write)),
    )?;
    call.column("execution_last_seqs", states().map(|e| e.last_seq))?;
    call.column(
        "execution_live_runs",
        states().map(|e| NumberList(&e.live_runs)),
    )?;
    call.column("execution_ends", states().map(|e| Jsonb::from(&e.ends)))?;
    call.sparse(
        "execution_errors",
        states().map(|e| optional(e.errors.as_ref())),
    )?;
    call.sparse(
        "execution_outputs",
        states().map(|e| optional(e.output.as_ref())),
    )?;
    call.sparse("execution_reply_tos", reply_tos.map(optional))?;
    call.sparse("execution_finished_ats", states().map(finished_at))
}

fn finished_at(state: &ExecutionStateRow) -> Option<chrono::DateTime<chrono::Utc>> {
    state.finished_at
}

/// The counts in the order of the columns.
fn counts(counts: &Counts) -> [i32; 9] {
    [
        counts.total,
        counts.active,
        counts.succeeded,
        counts.failed,
        counts.timed_out,
        counts.cancelled,
        counts.skipped,
        counts.omitted,
        counts.attempts,
    ]
}

fn optional(json: Option<&Json>) -> Option<Jsonb<'_>> {
    json.map(Jsonb::from)
}

fn add_created_tasks(call: &mut Call, new: &[TaskRow]) -> Result<(), BoxDynError> {
    let new = || new.iter();
    call.column("created_task_ids", new().map(|t| t.task_id.0))?;
    call.column("created_tasks", new().map(|t| t.task.as_str()))?;
    call.column("created_task_visits", new().map(|t| integer(t.visit)))?;
    call.column("created_task_ats", new().map(|t| t.created_at))
}

/// New runs first, then those that were there before.
fn all_tasks(commit: &Commit) -> impl Iterator<Item = &TaskRow> {
    commit.new_tasks.iter().chain(&commit.tasks)
}

fn add_tasks(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let tasks = || all_tasks(commit);
    call.column("task_execution_ids", tasks().map(|t| t.execution_id.0))?;
    call.column("task_runs", tasks().map(|t| integer(t.run)))?;
    call.column("task_statuses", tasks().map(|t| t.status))?;
    call.column("task_attempts", tasks().map(|t| integer(t.attempt)))?;
    call.column(
        "task_max_attempts",
        tasks().map(|t| integer(t.max_attempts)),
    )?;
    call.column("task_starts", tasks().map(|t| integer(t.starts)))?;
    call.column("task_helds", tasks().map(|t| t.held))?;
    call.sparse("task_actions", tasks().map(|t| t.action.as_deref()))?;
    call.sparse("task_pools", tasks().map(|t| t.pool.as_deref()))?;
    call.sparse("task_timeouts", tasks().map(|t| t.timeout_s))?;
    call.sparse("task_inputs", tasks().map(|t| optional(t.input.as_ref())))?;
    call.sparse(
        "task_branches",
        tasks().map(|t| optional(t.branch.as_ref())),
    )?;
    call.column("task_caused_by", tasks().map(|t| NumberList(&t.caused_by)))?;
    call.column("task_arrived", tasks().map(|t| NumberList(&t.arrived)))?;
    call.sparse("task_workers", tasks().map(|t| t.worker.as_deref()))?;
    call.sparse("task_results", tasks().map(|t| optional(t.result.as_ref())))?;
    call.sparse("task_errors", tasks().map(|t| optional(t.error.as_ref())))
}

fn add_task_times(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let tasks = || all_tasks(commit);
    call.sparse("task_dispatched_ats", tasks().map(|t| t.dispatched_at))?;
    call.sparse("task_started_ats", tasks().map(|t| t.started_at))?;
    call.sparse("task_finished_ats", tasks().map(|t| t.finished_at))
}

/// What few tasks have.
fn add_items(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let new = || commit.new_tasks.iter();
    call.sparse(
        "created_task_item_ofs",
        new().map(|t| t.item_of.map(integer)),
    )?;
    call.sparse(
        "created_task_item_indexes",
        new().map(|t| t.item_index.map(integer)),
    )?;
    call.sparse(
        "created_task_batch_sizes",
        new().map(|t| t.batch_size.map(integer)),
    )?;
    let tasks = || all_tasks(commit);
    call.sparse("task_items", tasks().map(|t| optional(t.items.as_ref())))?;
    call.sparse(
        "task_item_progresses",
        tasks().map(|t| optional(t.item_progress.as_ref())),
    )?;
    call.sparse(
        "task_secrets",
        tasks().map(|t| optional(t.secrets.as_ref())),
    )
}

fn add_variables(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let variables = || commit.variables.iter();
    call.column(
        "variable_execution_ids",
        variables().map(|v| v.execution_id.0),
    )?;
    call.column(
        "variable_write_nos",
        variables().map(|v| bigint(v.write_no)),
    )?;
    call.column("variable_names", variables().map(|v| v.name.as_str()))?;
    call.column(
        "variable_values",
        variables().map(|v| Jsonb::from(&v.value)),
    )?;
    call.sparse(
        "variable_previous_write_nos",
        variables().map(|v| v.previous_write_no.map(bigint)),
    )
}

fn add_transitions(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let log = || commit.transitions.iter();
    call.column("transition_execution_ids", log().map(|l| l.execution_id.0))?;
    call.column("transition_seqs", log().map(|l| l.seq))?;
    call.column("transition_ats", log().map(|l| l.at))?;
    call.column("transition_kinds", log().map(|l| l.kind.word()))?;
    call.sparse(
        "transition_task_ids",
        log().map(|l| l.task_id.map(|id| id.0)),
    )?;
    call.sparse("transition_attempts", log().map(|l| l.attempt.map(integer)))?;
    call.sparse("transition_from_statuses", log().map(|l| l.from_status))?;
    call.sparse("transition_to_statuses", log().map(|l| l.to_status))?;
    call.sparse(
        "transition_details",
        log().map(|l| optional(l.detail.as_ref())),
    )
}

fn add_timers(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let set = || commit.timers_set.iter();
    let cleared = || commit.timers_cleared.iter();
    call.column("timer_execution_ids", set().map(|t| t.execution_id.0))?;
    call.column("timer_runs", set().map(|t| integer(t.run)))?;
    call.column("timer_partitions", set().map(|t| t.partition))?;
    call.column("timer_kinds", set().map(|t| t.kind.word()))?;
    call.column("timer_due_ats", set().map(|t| t.due_at))?;
    call.column("cleared_execution_ids", cleared().map(|(id, _)| id.0))?;
    call.column("cleared_runs", cleared().map(|(_, run)| integer(*run)))
}

fn add_outbox(call: &mut Call, commit: &Commit) -> Result<(), BoxDynError> {
    let (rows, jobs) = outbox_rows(commit);
    let rows = || rows.iter();
    let jobs = || jobs.iter();
    call.column("outbox_partitions", rows().map(|o| o.partition))?;
    call.column("outbox_turns", rows().map(|o| o.turn))?;
    call.column("outbox_firsts", rows().map(|o| o.first))?;
    call.column("outbox_lasts", rows().map(|o| o.last))?;
    call.sparse(
        "outbox_replies",
        rows().map(|o| o.replies.as_deref().map(Jsonb)),
    )?;
    call.column("job_execution_ids", jobs().map(|j| j.execution_id.0))?;
    call.column("job_runs", jobs().map(|j| integer(j.run)))?;
    call.column("job_attempts", jobs().map(|j| integer(j.attempt)))
}

/// Ignored messages as a JSON list of rows: they are rare, and fifteen arrays are not free.
fn ignored(rows: &[IgnoredRow]) -> Result<Option<String>, BoxDynError> {
    #[derive(Serialize)]
    struct Ignored<'a> {
        queue: &'a str,
        message_type: &'a str,
        execution_id: Uuid,
        task_id: Option<Uuid>,
        attempt: Option<u32>,
        worker: Option<&'a str>,
        reason: &'a str,
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let rows: Vec<Ignored<'_>> = rows
        .iter()
        .map(|row| Ignored {
            queue: &row.queue,
            message_type: row.message_type,
            execution_id: row.execution_id.0,
            task_id: row.task_id.map(|id| id.0),
            attempt: row.attempt,
            worker: row.worker.as_deref(),
            reason: row.reason,
        })
        .collect();
    Ok(Some(serde_json::to_string(&rows)?))
}
