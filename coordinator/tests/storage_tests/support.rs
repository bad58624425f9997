//! Rows to write, as short as tests want them. JSON is written the way Postgres prints `jsonb`, so
//! that what is loaded compares equal.

use chrono::{DateTime, Utc};
use flotilla_coordinator::storage::{self, StoredDefinition};
use flotilla_engine::execution::{Counts, TransitionKind};
use flotilla_engine::{DefinitionHash, Json};
use flotilla_protocol::{ExecutionId, RunNo, TaskId};
use flotilla_turn::rows::{
    Commit, CommitAnswer, ExecutionRow, ExecutionStateRow, PartitionNo, PartitionTurn, StartRow,
    TaskRow, TransitionRow, VariableRow,
};
use sqlx::{ConnectOptions, PgConnection, PgPool};
use uuid::Uuid;

pub const HASH: DefinitionHash = DefinitionHash([7; 32]);

/// Migrates the database, takes all partitions, and opens a connection as coordinators commit on.
pub async fn ready(pool: &PgPool) -> PgConnection {
    storage::migrate(pool, None).await.expect("it migrates");
    storage::take_partitions(pool, Uuid::from_u128(1), 60.0)
        .await
        .expect("partitions are taken");
    let url = pool.connect_options().to_url_lossy();
    storage::connect_to_commit(url.as_str())
        .await
        .expect("a connection")
}

/// A definition that belongs to no pack.
pub fn definition(hash: DefinitionHash, source: &str) -> StoredDefinition {
    StoredDefinition {
        hash,
        source: source.to_owned(),
        pack: None,
    }
}

/// The commit must be written.
pub async fn committed(conn: &mut PgConnection, commit: &Commit) {
    let answer = storage::commit(conn, commit).await;
    assert!(
        matches!(answer, CommitAnswer::Committed { .. }),
        "{answer:?}"
    );
}

pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 123_456_000).expect("a valid time")
}

pub fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).expect("JSON")
}

pub fn id(number: u128) -> ExecutionId {
    ExecutionId(Uuid::from_u128(
        0x0190_0000_0000_7000_8000_0000_0000_0000 + number,
    ))
}

pub fn task_id(execution: ExecutionId, run: RunNo) -> TaskId {
    TaskId::derive(execution, at(0), run)
}

/// A commit of nothing, for a turn of each partition, in the first epoch.
pub fn turn(number: i64, partitions: &[PartitionNo]) -> Commit {
    Commit {
        partitions: partitions
            .iter()
            .map(|partition| PartitionTurn {
                partition: *partition,
                epoch: 1,
                turn: number,
                dispatched_through: 0,
            })
            .collect(),
        ..Commit::empty(Uuid::now_v7(), 60.0)
    }
}

/// A turn of partition 0 that creates an execution with one task and a log entry.
pub fn start_turn(number: i64, execution: ExecutionId) -> Commit {
    let mut commit = turn(number, &[0]);
    commit.starts.push(start(execution, None));
    commit.new_executions.push(new_execution(execution));
    commit.new_tasks.push(task(execution, 1));
    commit.transitions.push(transition(execution, 1));
    commit
}

pub fn start(execution: ExecutionId, key: Option<&str>) -> StartRow {
    StartRow {
        execution_id: execution,
        idempotency_key: key.map(str::to_owned),
        workflow: "demo.hello".to_owned(),
        partition: 0,
    }
}

pub fn new_execution(execution: ExecutionId) -> ExecutionRow {
    ExecutionRow {
        parent: None,
        timeout_s: None,
        definition_hash: HASH,
        workflow: "demo.hello".to_owned(),
        version: "1.0.0".to_owned(),
        partition: 0,
        idempotency_key: None,
        tags: json("{}"),
        parameters: json(r#"{"name": "Ada"}"#),
        reply_to: json("[]"),
        traceparent: None,
        created_at: at(0),
        state: state(execution, &[1]),
    }
}

/// A running execution whose live runs are given.
pub fn state(execution: ExecutionId, live: &[RunNo]) -> ExecutionStateRow {
    let total = i32::try_from(live.len()).expect("few");
    ExecutionStateRow {
        execution_id: execution,
        status: "running",
        counts: Counts {
            total,
            active: total,
            attempts: total,
            ..Counts::default()
        },
        visits: vec![1, 0, 0],
        last_run: live.last().copied().unwrap_or(0),
        last_write: 0,
        last_seq: 1,
        live_runs: live.to_vec(),
        ends: json("{}"),
        errors: None,
        output: None,
        reply_to: None,
        finished_at: None,
    }
}

/// A dispatched run.
pub fn task(execution: ExecutionId, run: RunNo) -> TaskRow {
    TaskRow {
        execution_id: execution,
        run,
        task_id: task_id(execution, run),
        task: "greet".to_owned(),
        visit: 1,
        created_at: at(0),
        status: "dispatched",
        attempt: 1,
        max_attempts: 3,
        starts: 0,
        held: false,
        action: Some("core.echo".to_owned()),
        pool: Some("default".to_owned()),
        timeout_s: Some(30.5),
        item_of: None,
        item_index: None,
        batch_size: None,
        items: None,
        item_progress: None,
        secrets: None,
        input: Some(json(r#"{"text": "hello"}"#)),
        branch: Some(json("{}")),
        caused_by: Vec::new(),
        arrived: Vec::new(),
        worker: None,
        result: None,
        error: None,
        dispatched_at: Some(at(0)),
        started_at: None,
        finished_at: None,
    }
}

/// The update of a run that succeeds: what has not changed is left out.
pub fn succeeded(execution: ExecutionId, run: RunNo) -> TaskRow {
    TaskRow {
        status: "succeeded",
        worker: Some("w-1".to_owned()),
        input: None,
        branch: None,
        result: Some(json(r#"{"text": "hello"}"#)),
        error: Some(json("null")),
        started_at: Some(at(1)),
        finished_at: Some(at(2)),
        ..task(execution, run)
    }
}

pub fn transition(execution: ExecutionId, seq: i64) -> TransitionRow {
    TransitionRow {
        execution_id: execution,
        seq,
        at: at(seq),
        kind: TransitionKind::TaskDispatched,
        task_id: Some(task_id(execution, 1)),
        attempt: Some(1),
        from_status: None,
        to_status: Some("dispatched"),
        detail: None,
    }
}

pub fn variable(
    execution: ExecutionId,
    write_no: u64,
    name: &str,
    previous: Option<u64>,
) -> VariableRow {
    VariableRow {
        execution_id: execution,
        write_no,
        name: name.to_owned(),
        value: json(&format!(r#"{{"no": {write_no}}}"#)),
        previous_write_no: previous,
    }
}

/// Rows of a table.
pub async fn count(conn: &mut PgConnection, table: &'static str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
        .fetch_one(conn)
        .await
        .expect("it counts")
}
