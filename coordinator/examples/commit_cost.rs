//! What a commit costs: transitions per second for turns of 1, 10, 100 and 500 tasks, each of which
//! is inserted in one turn and updated in the next, and a tenth of an execution with it.
//!
//! `DATABASE_URL=… cargo run --release --example commit_cost -p flotilla-coordinator [seconds [tasks…]]`
//! in a database that is empty and may be filled.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use flotilla_coordinator::storage;
use flotilla_engine::execution::{Counts, TransitionKind};
use flotilla_engine::{DefinitionHash, Json};
use flotilla_protocol::{ExecutionId, RunNo, TaskId};
use flotilla_turn::rows::{
    Commit, CommitAnswer, ExecutionRow, ExecutionStateRow, OutboxJob, PartitionTurn, TaskRow,
    TransitionRow,
};
use sqlx::PgConnection;
use uuid::Uuid;

/// Tasks of an execution.
const TASKS: u32 = 10;
/// Partitions of a turn.
const PARTITIONS: i32 = 16;
/// Seconds that a run holds them after its last turn, should it fail.
const LEASE_S: f64 = 10.0;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let url = std::env::var("DATABASE_URL")?;
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let mut sizes = arguments
        .map(|text| text.parse())
        .collect::<Result<Vec<u32>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![1, 10, 100, 500];
    }
    let pool = storage::connect(&url).await?;
    storage::migrate(&pool, Some(PARTITIONS)).await?;
    let owner = Uuid::now_v7();
    let (taken, _) = storage::take_partitions(&pool, owner, LEASE_S).await?;
    if taken.len() != usize::try_from(PARTITIONS)? {
        return Err("somebody else holds partitions of this database".into());
    }
    let mut fence: Vec<PartitionTurn> = taken
        .iter()
        .map(|taken| PartitionTurn {
            partition: taken.partition,
            epoch: taken.epoch,
            turn: taken.last_turn,
            dispatched_through: taken.last_turn,
        })
        .collect();
    let mut conn = storage::connect_to_commit(&url).await?;
    println!("tasks/turn     turns/s  ms/turn  transitions/s  us/task");
    for size in sizes {
        let limit = Duration::from_secs(seconds);
        let (turns, elapsed) = run(&mut conn, &mut fence, size, limit).await?;
        let per_turn = elapsed.as_secs_f64() / f64::from(turns);
        println!(
            "{size:10}  {:10.0}  {:7.2}  {:13.0}  {:7.1}",
            1.0 / per_turn,
            per_turn * 1e3,
            f64::from(2 * size) / per_turn,
            per_turn * 1e6 / f64::from(size),
        );
    }
    let held: Vec<_> = fence
        .iter()
        .map(|held| (held.partition, held.epoch))
        .collect();
    storage::release_partitions(&pool, owner, &held, true).await?;
    Ok(())
}

/// Turns that each end `size` tasks and create as many, until the time is over.
async fn run(
    conn: &mut PgConnection,
    fence: &mut [PartitionTurn],
    size: u32,
    limit: Duration,
) -> Result<(u32, Duration), Failure> {
    let mut lanes: Vec<Lane> = (0..size).map(Lane::new).collect();
    let mut turns = 0;
    let mut elapsed = Duration::ZERO;
    while elapsed < limit {
        let commit = next_turn(fence, &mut lanes);
        let started = Instant::now();
        let answer = storage::commit(conn, &commit).await;
        elapsed += started.elapsed();
        if !matches!(answer, CommitAnswer::Committed { .. }) {
            return Err(format!("{answer:?}").into());
        }
        turns += 1;
    }
    Ok((turns, elapsed))
}

/// A chain of tasks, execution after execution.
struct Lane {
    execution: ExecutionId,
    partition: i32,
    run: RunNo,
    now: DateTime<Utc>,
}

impl Lane {
    fn new(number: u32) -> Self {
        Self {
            execution: ExecutionId(Uuid::now_v7()),
            partition: i32::try_from(number).unwrap_or(0) % PARTITIONS,
            run: 0,
            now: Utc::now(),
        }
    }

    fn step(&mut self, commit: &mut Commit, turn: i64) {
        if self.run > 0 {
            commit.tasks.push(self.ended());
            commit
                .transitions
                .push(self.transition(2 * i64::from(self.run), "succeeded"));
        }
        if self.run == TASKS {
            commit.executions.push(self.state("succeeded"));
            self.execution = ExecutionId(Uuid::now_v7());
            self.run = 0;
        }
        self.run += 1;
        if self.run == 1 {
            commit.new_executions.push(self.created());
        }
        commit.new_tasks.push(self.task());
        commit
            .transitions
            .push(self.transition(2 * i64::from(self.run) - 1, "dispatched"));
        commit.jobs.push(OutboxJob {
            partition: self.partition,
            turn,
            execution_id: self.execution,
            run: self.run,
            attempt: 1,
        });
    }

    fn created(&self) -> ExecutionRow {
        ExecutionRow {
            parent: None,
            timeout_s: None,
            definition_hash: DefinitionHash([1; 32]),
            workflow: "bench.chain".to_owned(),
            version: "1.0.0".to_owned(),
            partition: self.partition,
            idempotency_key: None,
            tags: json("{}"),
            parameters: json(r#"{"n": 1}"#),
            reply_to: json("[]"),
            traceparent: None,
            created_at: self.now,
            state: self.state("running"),
        }
    }

    fn state(&self, status: &'static str) -> ExecutionStateRow {
        let is_over = status == "succeeded";
        ExecutionStateRow {
            execution_id: self.execution,
            status,
            counts: Counts {
                total: 1,
                active: i32::from(!is_over),
                succeeded: i32::from(is_over),
                attempts: 1,
                ..Counts::default()
            },
            visits: vec![1; 10],
            last_run: self.run,
            last_write: 0,
            last_seq: 2 * i64::from(self.run.max(1)),
            live_runs: if is_over { Vec::new() } else { vec![1] },
            ends: json("{}"),
            errors: None,
            output: None,
            reply_to: None,
            finished_at: is_over.then_some(self.now),
        }
    }

    fn task(&self) -> TaskRow {
        TaskRow {
            execution_id: self.execution,
            run: self.run,
            task_id: TaskId::derive(self.execution, self.now, self.run),
            task: "step".to_owned(),
            visit: 1,
            created_at: self.now,
            status: "dispatched",
            attempt: 1,
            max_attempts: 1,
            starts: 0,
            held: false,
            action: Some("core.echo".to_owned()),
            pool: Some("default".to_owned()),
            timeout_s: Some(60.0),
            item_of: None,
            item_index: None,
            batch_size: None,
            items: None,
            item_progress: None,
            secrets: None,
            input: Some(json(
                r#"{"text": "hello, this is the input of a task", "n": 42}"#,
            )),
            branch: Some(json(r#"{"vars": {"x": 1}}"#)),
            caused_by: vec![self.run - 1],
            arrived: Vec::new(),
            worker: None,
            result: None,
            error: None,
            dispatched_at: Some(self.now),
            started_at: None,
            finished_at: None,
        }
    }

    fn ended(&self) -> TaskRow {
        TaskRow {
            status: "succeeded",
            input: None,
            branch: None,
            worker: Some("worker-1".to_owned()),
            result: Some(json(r#"{"text": "hello, this is the result of a task"}"#)),
            error: Some(json("null")),
            started_at: Some(self.now),
            finished_at: Some(self.now),
            ..self.task()
        }
    }

    fn transition(&self, seq: i64, to_status: &'static str) -> TransitionRow {
        TransitionRow {
            execution_id: self.execution,
            seq,
            at: self.now,
            kind: TransitionKind::TaskDispatched,
            task_id: Some(TaskId::derive(self.execution, self.now, self.run)),
            attempt: Some(1),
            from_status: None,
            to_status: Some(to_status),
            detail: None,
        }
    }
}

fn next_turn(fence: &mut [PartitionTurn], lanes: &mut [Lane]) -> Commit {
    let touched = lanes.len().min(fence.len());
    for partition in &mut fence[..touched] {
        partition.dispatched_through = partition.turn.max(1) - 1;
        partition.turn += 1;
    }
    let mut commit = Commit {
        partitions: fence[..touched].to_vec(),
        ..Commit::empty(Uuid::now_v7(), LEASE_S)
    };
    for lane in lanes {
        let partition = usize::try_from(lane.partition).unwrap_or(0);
        let turn = fence[partition].turn;
        lane.step(&mut commit, turn);
    }
    commit
}

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).expect("JSON")
}
