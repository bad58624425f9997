//! The contents of all tables as rows of JSON, under the names of the columns. What only Postgres
//! keeps (numbers of rows, when a row was written) is left out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use flotilla_engine::Json;
use flotilla_simulation::Store;
use flotilla_turn::rows::{OutboxReply, ReplyMessage, TaskRow};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::answer::{sorted, value};

/// The rows of each table, sorted.
pub type Tables = BTreeMap<&'static str, Vec<String>>;

const QUERIES: [(&str, &str); 13] = [
    (
        "coordinator",
        "SELECT id, seen_at, stopped_at IS NOT NULL AS has_stopped FROM coordinator",
    ),
    (
        "coordinator_partition",
        "SELECT * FROM coordinator_partition",
    ),
    (
        "workflow_start",
        "SELECT execution_id, idempotency_key, workflow, partition FROM workflow_start",
    ),
    ("workflow_execution", "SELECT * FROM workflow_execution"),
    ("workflow_task", "SELECT * FROM workflow_task"),
    ("workflow_variable", "SELECT * FROM workflow_variable"),
    ("workflow_transition", "SELECT * FROM workflow_transition"),
    ("workflow_timer", "SELECT * FROM workflow_timer"),
    (
        "workflow_outbox: jobs",
        "SELECT partition, turn, execution_id, run, attempt FROM workflow_outbox, \
         unnest(execution_ids, runs, attempts) AS j (execution_id, run, attempt)",
    ),
    (
        "workflow_outbox: replies",
        "SELECT partition, turn, reply FROM workflow_outbox, jsonb_array_elements(replies) AS reply",
    ),
    (
        "workflow_ignored_message",
        "SELECT queue, message_type, execution_id, task_id, attempt, worker, reason \
         FROM workflow_ignored_message",
    ),
    (
        "workflow_suspect_message",
        "SELECT key, owner FROM workflow_suspect_message",
    ),
    (
        "workflow_dead_letter",
        "SELECT message_key, reason FROM workflow_dead_letter",
    ),
];

pub async fn of_postgres(conn: &mut PgConnection) -> Tables {
    let parts = QUERIES.map(|(table, query)| {
        format!("SELECT '{table}' AS name, to_jsonb(r) AS row FROM ({query}) AS r")
    });
    // The statement holds names of tables and columns and no value.
    let sql = AssertSqlSafe(parts.join(" UNION ALL "));
    let rows: Vec<(String, Value)> = sqlx::query_as(sql)
        .fetch_all(conn)
        .await
        .expect("the tables are read");
    let of_table = |table: &str| {
        let rows = rows.iter().filter(|(name, _)| name == table);
        lines(rows.map(|(_, row)| with_times(row.clone())).collect())
    };
    QUERIES.map(|(table, _)| (table, of_table(table))).into()
}

/// Sorted lines that can be compared and read.
fn lines(rows: Vec<Value>) -> Vec<String> {
    let rows = rows.into_iter().map(|row| sorted(row).to_string());
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}

/// A row of Postgres with its times as [`time`] writes them.
fn with_times(mut row: Value) -> Value {
    for (name, column) in row.as_object_mut().expect("a row") {
        if !(name == "at" || name.ends_with("_at")) {
            continue;
        }
        if let Some(text) = column.as_str() {
            // Never taken: the model has no time before all others.
            *column = match text {
                "-infinity" => time(DateTime::UNIX_EPOCH),
                text => time(text.parse().expect("a time")),
            };
        }
    }
    row
}

fn time(at: DateTime<Utc>) -> Value {
    json!(at.timestamp_micros())
}

fn optional_time(at: Option<DateTime<Utc>>) -> Value {
    at.map_or(Value::Null, time)
}

fn optional(json: Option<&Json>) -> Value {
    json.map_or(Value::Null, value)
}

pub fn of_model(store: &Store) -> Tables {
    let rows = [
        coordinators(store),
        partitions(store),
        store.starts.values().map(|row| json!({
            "execution_id": row.execution_id, "idempotency_key": row.idempotency_key,
            "workflow": row.workflow, "partition": row.partition,
        })).collect(),
        executions(store),
        store.tasks.values().map(task).collect(),
        store.variables.values().map(|row| json!({
            "execution_id": row.execution_id, "write_no": row.write_no, "name": row.name,
            "value": value(&row.value), "previous_write_no": row.previous_write_no,
        })).collect(),
        store.transitions.values().map(|row| json!({
            "execution_id": row.execution_id, "seq": row.seq, "at": time(row.at),
            "kind": row.kind.word(), "task_id": row.task_id, "attempt": row.attempt,
            "from_status": row.from_status, "to_status": row.to_status,
            "detail": optional(row.detail.as_ref()),
        })).collect(),
        store.timers.values().map(|row| json!({
            "execution_id": row.execution_id, "run": row.run, "partition": row.partition,
            "kind": row.kind.word(), "due_at": time(row.due_at),
        })).collect(),
        store.jobs.iter().map(|row| json!({
            "partition": row.partition, "turn": row.turn, "execution_id": row.execution_id,
            "run": row.run, "attempt": row.attempt,
        })).collect(),
        store.replies.iter().map(reply).collect(),
        store.ignored.iter().map(|row| json!({
            "queue": row.queue, "message_type": row.message_type, "execution_id": row.execution_id,
            "task_id": row.task_id, "attempt": row.attempt, "worker": row.worker,
            "reason": row.reason,
        })).collect(),
        store.suspects.iter().map(|(key, owner)| json!({"key": key, "owner": owner})).collect(),
        store.dead_letters.iter().map(|(key, reason)| json!({
            "message_key": key, "reason": reason,
        })).collect(),
    ];
    let names = QUERIES.map(|(table, _)| table);
    names.into_iter().zip(rows.map(lines)).collect()
}

fn coordinators(store: &Store) -> Vec<Value> {
    let rows = store.coordinators.iter();
    rows.map(
        |(id, row)| json!({"id": id, "seen_at": time(row.seen_at), "has_stopped": row.has_stopped}),
    )
    .collect()
}

fn partitions(store: &Store) -> Vec<Value> {
    let rows = store.partitions.iter();
    rows.map(|(id, row)| {
        let turn_id = Some(row.turn_id).filter(|id| !id.is_nil());
        json!({
            "id": id, "owner": row.owner, "epoch": row.epoch,
            "lease_expires_at": time(row.lease_expires_at), "last_turn": row.last_turn,
            "turn_id": turn_id, "dispatched_through": row.dispatched_through,
        })
    })
    .collect()
}

fn executions(store: &Store) -> Vec<Value> {
    let rows = store.executions.values();
    rows.map(|row| {
        let state = &row.state;
        let counts = &state.counts;
        let hash: String = row
            .definition_hash
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        json!({
            "execution_id": state.execution_id, "definition_hash": format!("\\x{hash}"),
            "workflow": row.workflow, "version": row.version, "partition": row.partition,
            "parent_execution_id": row.parent.map(|parent| parent.execution_id),
            "timeout_s": row.timeout_s,
            "parent_run": row.parent.map(|parent| parent.run),
            "idempotency_key": row.idempotency_key, "tags": value(&row.tags),
            "parameters": value(&row.parameters), "traceparent": row.traceparent,
            "created_at": time(row.created_at), "status": state.status,
            "tasks_total": counts.total, "tasks_active": counts.active,
            "tasks_succeeded": counts.succeeded, "tasks_failed": counts.failed,
            "tasks_timed_out": counts.timed_out, "tasks_cancelled": counts.cancelled,
            "tasks_skipped": counts.skipped, "tasks_omitted": counts.omitted,
            "attempts_total": counts.attempts, "visits": state.visits,
            "last_run": state.last_run, "last_write": state.last_write,
            "last_seq": state.last_seq, "live_runs": state.live_runs, "ends": value(&state.ends),
            "errors": optional(state.errors.as_ref()), "output": optional(state.output.as_ref()),
            "reply_to": optional(state.reply_to.as_ref()),
            "finished_at": optional_time(state.finished_at),
        })
    })
    .collect()
}

fn task(row: &TaskRow) -> Value {
    json!({
        "execution_id": row.execution_id, "run": row.run, "task_id": row.task_id,
        "task": row.task, "visit": row.visit, "created_at": time(row.created_at),
        "status": row.status, "attempt": row.attempt, "max_attempts": row.max_attempts,
        "starts": row.starts, "held": row.held, "action": row.action, "pool": row.pool,
        "item_of": row.item_of, "item_index": row.item_index, "batch_size": row.batch_size,
        "items": optional(row.items.as_ref()),
        "item_progress": optional(row.item_progress.as_ref()),
        "secrets": optional(row.secrets.as_ref()),
        "timeout_s": row.timeout_s.map(number), "input": optional(row.input.as_ref()),
        "branch": optional(row.branch.as_ref()), "caused_by": row.caused_by,
        "arrived": row.arrived, "worker": row.worker, "result": optional(row.result.as_ref()),
        "error": optional(row.error.as_ref()), "dispatched_at": optional_time(row.dispatched_at),
        "started_at": optional_time(row.started_at),
        "finished_at": optional_time(row.finished_at),
    })
}

/// A number as Postgres writes it: one that is whole has no point.
fn number(number: f64) -> Value {
    serde_json::from_str(&number.to_string()).expect("a number")
}

fn reply(row: &OutboxReply) -> Value {
    let mut kept = json!({"reply_to": row.reply_to});
    if let Some(id) = &row.correlation_id {
        kept["correlation_id"] = json!(id);
    }
    match &row.message {
        ReplyMessage::Stored { message_type, body } => {
            kept["type"] = json!(message_type);
            kept["body"] = json!(body);
        }
        ReplyMessage::Finished { execution_id } => kept["finished"] = json!(execution_id),
    }
    json!({"partition": row.partition, "turn": row.turn, "reply": kept})
}

/// Says which rows one side lacks.
pub fn assert_same(left: &Tables, right: &Tables, what: &str) {
    for (table, rows) in left {
        let others = &right[table];
        if rows != others {
            let lacking = |these: &[String], those: &[String]| {
                let these = these.iter().filter(|row| !those.contains(row));
                these.cloned().collect::<Vec<_>>().join("\n  ")
            };
            panic!(
                "{table} differs {what}\nonly here:\n  {}\nonly there:\n  {}",
                lacking(rows, others),
                lacking(others, rows)
            );
        }
    }
}
