//! Rows to write, as short as the cases want them.

use std::cell::Cell;

use chrono::{DateTime, Utc};
use flotilla_engine::Json;
use flotilla_engine::execution::{Counts, TimerKind, TransitionKind};
use flotilla_protocol::{ExecutionId, RunNo, TaskId};
use flotilla_turn::rows::{
    Commit, ExecutionRow, ExecutionStateRow, OutboxJob, OutboxReply, PartitionNo, PartitionTurn,
    ReplyMessage, StartRow, TaskRow, TimerRow, TransitionRow, TurnNo, VariableRow,
};
use uuid::Uuid;

/// The coordinator of most cases, and two others.
pub const ME: Uuid = Uuid::from_u128(1);
pub const OTHER: Uuid = Uuid::from_u128(2);
pub const THIRD: Uuid = Uuid::from_u128(3);
/// Seconds of all leases.
pub const LEASE_S: f64 = 3.0;
/// The workflow of all executions, the first of the simulation's.
pub const WORKFLOW: &str = "t.one";

/// A time after that at which every case begins.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 123_456_000).expect("a valid time")
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

thread_local! {
    static TURN_IDS: Cell<u128> = const { Cell::new(0) };
}

/// Begins a case: the ids of its turns will be the same whenever it runs.
pub fn begin() {
    TURN_IDS.set(0);
}

pub fn next_turn_id() -> Uuid {
    TURN_IDS.set(TURN_IDS.get() + 1);
    Uuid::from_u128(TURN_IDS.get())
}

/// A commit of nothing for a turn of each partition, in the first epoch.
pub fn turn(number: TurnNo, partitions: &[PartitionNo]) -> Commit {
    let partitions = partitions.iter().map(|partition| PartitionTurn {
        partition: *partition,
        epoch: 1,
        turn: number,
        dispatched_through: 0,
    });
    Commit {
        partitions: partitions.collect(),
        ..Commit::empty(next_turn_id(), LEASE_S)
    }
}

/// The same, with watermarks at a turn.
pub fn turn_through(number: TurnNo, partitions: &[PartitionNo], through: TurnNo) -> Commit {
    let mut commit = turn(number, partitions);
    for fence in &mut commit.partitions {
        fence.dispatched_through = through;
    }
    commit
}

/// A turn of partition 0 that creates an execution with one dispatched run, which it owes.
pub fn start_turn(number: TurnNo, execution: ExecutionId) -> Commit {
    let mut commit = turn(number, &[0]);
    add_start(&mut commit, execution, 0);
    commit.jobs.push(job(0, number, execution));
    commit
}

/// A start, an execution, a run and an entry of the log.
pub fn add_start(commit: &mut Commit, execution: ExecutionId, partition: PartitionNo) {
    commit.starts.push(StartRow {
        execution_id: execution,
        idempotency_key: None,
        workflow: WORKFLOW.to_owned(),
        partition,
    });
    commit.new_executions.push(ExecutionRow {
        partition,
        ..new_execution(execution)
    });
    commit.new_tasks.push(task(execution, 1));
    commit.transitions.push(transition(execution, 1));
}

pub fn new_execution(execution: ExecutionId) -> ExecutionRow {
    ExecutionRow {
        parent: None,
        timeout_s: None,
        definition_hash: flotilla_simulation::workflows()[0].hash,
        workflow: WORKFLOW.to_owned(),
        version: "0.0.0".to_owned(),
        partition: 0,
        idempotency_key: None,
        tags: json(r#"{"team": "a"}"#),
        parameters: json(r#"{"b": 1, "a": [1.5, null]}"#),
        reply_to: json(r#"[{"reply_to": "q"}]"#),
        traceparent: Some("00-1-2-01".to_owned()),
        created_at: at(0),
        state: state(execution, &[1]),
    }
}

/// A running execution with these live runs.
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
        visits: vec![1],
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
        task: "a".to_owned(),
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
        branch: None,
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
        result: Some(json(r#"{"z": 1, "text": "hello"}"#)),
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

pub fn timer(execution: ExecutionId, run: RunNo, due_at: DateTime<Utc>) -> TimerRow {
    TimerRow {
        execution_id: execution,
        run,
        partition: 0,
        kind: TimerKind::Deadline,
        due_at,
    }
}

pub fn job(partition: PartitionNo, turn: TurnNo, execution: ExecutionId) -> OutboxJob {
    OutboxJob {
        partition,
        turn,
        execution_id: execution,
        run: 1,
        attempt: 1,
    }
}

pub fn stored_reply(partition: PartitionNo, turn: TurnNo) -> OutboxReply {
    OutboxReply {
        partition,
        turn,
        reply_to: "q".to_owned(),
        correlation_id: Some("c".to_owned()),
        message: ReplyMessage::Stored {
            message_type: "workflow.started".to_owned(),
            body: r#"{"b":1,"a":2}"#.to_owned(),
        },
    }
}

pub fn finished_reply(
    partition: PartitionNo,
    turn: TurnNo,
    execution_id: ExecutionId,
) -> OutboxReply {
    OutboxReply {
        correlation_id: None,
        message: ReplyMessage::Finished { execution_id },
        ..stored_reply(partition, turn)
    }
}
