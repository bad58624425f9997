//! What was seen of an execution, as the rows of the database tell it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use flotilla_engine::execution::{ExecutionError, RunStatus};
use flotilla_protocol::RunNo;
use flotilla_scripted::{Delivery, Seen, SeenRun};
use flotilla_tests::Database;
use serde_json::{Map, Value};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::worker::Jobs;

/// Runs of one execution, which are told apart from those of its children.
const MOST_RUNS: RunNo = 1_000_000;
/// The execution and all below it, each with what stands before the names of its tasks.
const FAMILY: &str = "WITH RECURSIVE family AS (
        SELECT execution_id, created_at, ''::text AS prefix
        FROM workflow_execution_summary WHERE execution_id = $1
        UNION ALL
        SELECT c.execution_id, c.created_at, split_part(c.workflow, '.', 2) || '.'
        FROM workflow_execution_summary AS c
        JOIN family AS p ON p.execution_id = c.parent_execution_id
    )";

#[derive(FromRow)]
struct ExecutionRow {
    workflow: String,
    status: String,
    is_final: bool,
    output: Option<Value>,
    variables: Json<Map<String, Value>>,
    errors: Value,
    duration_s: f64,
}

#[derive(FromRow)]
struct TaskRow {
    execution_id: Uuid,
    run: i32,
    task_id: Uuid,
    task: String,
    status: String,
    attempt: i32,
    item_index: Option<i32>,
    action: Option<String>,
    input: Option<Value>,
    /// When each of its children was created.
    children_at: Vec<DateTime<Utc>>,
    /// When each of them ended.
    children_ended_at: Vec<Option<DateTime<Utc>>>,
}

/// A run that began.
#[derive(FromRow)]
struct StartRow {
    execution_id: Uuid,
    run: i32,
    task_id: Uuid,
    task: String,
    at: DateTime<Utc>,
}

/// Reads what became of an execution, whose jobs its worker has told.
pub async fn seen(database: &Database, id: Uuid, jobs: &Jobs) -> Seen {
    let query =
        "SELECT workflow, status::text, finished_at IS NOT NULL AS is_final, output, variables,
            errors, duration_s
        FROM workflow_execution_summary WHERE execution_id = $1";
    let execution: ExecutionRow = sqlx::query_as(query)
        .bind(id)
        .fetch_one(&database.pool)
        .await
        .expect("it was created");
    let tasks = tasks(database, id).await;
    let order = executions(&tasks);
    let number = |execution: Uuid, run: i32| {
        let base = MOST_RUNS * RunNo::try_from(order[&execution]).expect("few");
        base + RunNo::try_from(run).expect("a number")
    };
    let mut runs = BTreeMap::new();
    for task in &tasks {
        if task.item_index.is_none() {
            let status = RunStatus::from_word(&task.status);
            let run = SeenRun {
                task: task.task.as_str().into(),
                status: status.expect("a known word").word(),
            };
            runs.insert(number(task.execution_id, task.run), run);
        }
    }
    let mut deliveries = jobs.deliveries.clone();
    deliveries.extend(children(&tasks));
    let count =
        "SELECT count(*) FROM workflow_execution_summary WHERE workflow = $1 AND execution_id = $2";
    let created: i64 = sqlx::query_scalar(count)
        .bind(&execution.workflow)
        .bind(id)
        .fetch_one(&database.pool)
        .await
        .expect("the database answers");
    // When a job came is known by the clock by which it was answered.
    let came = |of: Uuid, id: Uuid| {
        let mut jobs = jobs.runs.iter().zip(&jobs.deliveries);
        let first = jobs.find(|(key, _)| **key == (of, id));
        first.map(|(_, delivery)| delivery.from_s)
    };
    let starts = starts(database, id).await.into_iter();
    let starts = starts.map(|start| {
        let at = came(start.execution_id, start.task_id);
        let at = at.unwrap_or_else(|| seconds(start.at));
        (number(start.execution_id, start.run), start.task.into(), at)
    });
    let errors: Vec<ExecutionError> =
        serde_json::from_value(execution.errors).expect("a list of errors");
    Seen {
        status: execution.status,
        is_final: execution.is_final,
        starts: starts.collect(),
        runs,
        output: execution.output.unwrap_or_default(),
        variables: execution.variables.0,
        errors,
        elapsed_s: Some(execution.duration_s),
        ignored_answers: ignored(database, id).await,
        created: u64::try_from(created).expect("a count"),
        damage: unlike_jobs(&tasks, jobs),
        deliveries,
        ..Seen::default()
    }
}

/// To whoever waits for it, a child is what a job is.
fn children(tasks: &[TaskRow]) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for task in tasks {
        let times = task.children_at.iter().zip(&task.children_ended_at);
        for (attempt, (created_at, ended_at)) in (1..).zip(times) {
            deliveries.push(Delivery {
                task: task.task.as_str().into(),
                run: 0,
                item: task
                    .item_index
                    .map(|index| u32::try_from(index).expect("an index")),
                attempt,
                action: task.action.clone().unwrap_or_default().into(),
                input: task.input.clone().unwrap_or_default(),
                from_s: seconds(*created_at),
                to_s: ended_at.map(seconds),
            });
        }
    }
    deliveries
}

/// Seconds since 1970, which the worker counts, too.
pub fn seconds(at: DateTime<Utc>) -> f64 {
    (at - DateTime::UNIX_EPOCH).as_seconds_f64()
}

async fn tasks(database: &Database, id: Uuid) -> Vec<TaskRow> {
    let query = format!(
        "{FAMILY}
        SELECT t.execution_id, t.run, t.task_id, f.prefix || t.task AS task, t.status::text, t.attempt,
            t.item_index, t.action, t.input,
            ARRAY(
                SELECT c.created_at FROM workflow_execution AS c
                WHERE c.parent_execution_id = t.execution_id AND c.parent_run = t.run
                ORDER BY c.created_at, c.execution_id
            ) AS children_at,
            ARRAY(
                SELECT c.finished_at FROM workflow_execution AS c
                WHERE c.parent_execution_id = t.execution_id AND c.parent_run = t.run
                ORDER BY c.created_at, c.execution_id
            ) AS children_ended_at
        FROM family AS f JOIN workflow_task AS t USING (execution_id)
        ORDER BY f.created_at, f.execution_id <> $1, f.execution_id, t.run"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(id)
        .fetch_all(&database.pool)
        .await
        .expect("the database answers")
}

/// The place of each execution, in the order of their creation.
fn executions(tasks: &[TaskRow]) -> BTreeMap<Uuid, usize> {
    let mut order = BTreeMap::new();
    for task in tasks {
        let next = order.len();
        order.entry(task.execution_id).or_insert(next);
    }
    order
}

/// When runs began, by the log: with their first job, with their first items, or by themselves.
async fn starts(database: &Database, id: Uuid) -> Vec<StartRow> {
    let query = format!(
        "{FAMILY}, log AS (
            SELECT DISTINCT ON (t.execution_id, t.run) t.execution_id, t.run, t.task_id,
                f.prefix || t.task AS task, l.at, l.seq
            FROM family AS f
            JOIN workflow_task AS t USING (execution_id)
            JOIN workflow_transition AS l USING (execution_id, task_id)
            WHERE t.item_index IS NULL AND CASE l.kind
                WHEN 'task_dispatched' THEN l.attempt = 1
                WHEN 'task_started' THEN t.item_progress IS NOT NULL
                WHEN 'task_ended' THEN t.action IS NULL AND (
                    t.status = 'succeeded'
                    OR t.status = 'failed' AND (
                        t.error ->> 'field' ~ '^(publish|decision|next|on_)'
                        OR t.error ->> 'kind' = 'no_branch_matched'
                    )
                )
                ELSE false
            END
            ORDER BY t.execution_id, t.run, l.seq
        )
        SELECT execution_id, run, task_id, task, at FROM log ORDER BY at, execution_id, seq"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(id)
        .fetch_all(&database.pool)
        .await
        .expect("the database answers")
}

async fn ignored(database: &Database, id: Uuid) -> u64 {
    let query = format!(
        "{FAMILY} SELECT count(*) FROM workflow_ignored_message JOIN family USING (execution_id)
         WHERE message_type = 'task.completed'"
    );
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(id)
        .fetch_one(&database.pool)
        .await
        .expect("the database answers");
    u64::try_from(count).expect("a count")
}

/// Where the rows of runs say something else than the newest job of each.
fn unlike_jobs(tasks: &[TaskRow], jobs: &Jobs) -> Vec<String> {
    let mut newest: BTreeMap<(Uuid, Uuid), &Delivery> = BTreeMap::new();
    for (key, delivery) in jobs.runs.iter().zip(&jobs.deliveries) {
        let known = newest.entry(*key).or_insert(delivery);
        if delivery.attempt >= known.attempt {
            *known = delivery;
        }
    }
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for task in tasks {
        let key = (task.execution_id, task.task_id);
        let Some(delivery) = newest.get(&key) else {
            continue;
        };
        told.insert(key);
        if i64::from(task.attempt) != i64::from(delivery.attempt) {
            found.push(format!(
                "{}: attempt {}, of its job {}",
                task.task, task.attempt, delivery.attempt
            ));
        }
        if task.input.as_ref() != Some(&delivery.input) {
            found.push(format!(
                "{}: input {:?}, of its job {}",
                task.task, task.input, delivery.input
            ));
        }
        if task.action.as_deref() != Some(&*delivery.action) {
            found.push(format!(
                "{}: action {:?}, of its job {}",
                task.task, task.action, delivery.action
            ));
        }
    }
    if told.len() != newest.len() {
        found.push(format!(
            "{} runs had jobs, {} are known",
            newest.len(),
            told.len()
        ));
    }
    found
}
