//! The lines that tasks have logged: written in batches beside the turns, read in the order of time.

use chrono::{DateTime, Utc};
use flotilla_protocol::{ExecutionId, TaskId};
use futures::TryStreamExt;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool};

use super::StorageError;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLogRow {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The run.
    pub task_id: TaskId,
    /// The attempt, from 1.
    pub attempt: i32,
    /// Number within the attempt, from 1.
    pub line_no: i32,
    /// When the worker took it.
    pub at: DateTime<Utc>,
    /// `stdout`, `stderr` or `log`.
    pub stream: String,
    /// The line.
    pub text: String,
}

/// How far the log of an attempt has been read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadUpTo {
    /// The run.
    pub task_id: TaskId,
    /// The attempt.
    pub attempt: i32,
    /// The last line that has been read.
    pub line_no: i32,
}

/// Stores lines; gives how many are new. A line that is there already stays as it is, and lines of an
/// execution that does not exist are dropped.
///
/// # Errors
///
/// When the database fails.
pub async fn insert_task_log(
    database: impl PgExecutor<'_>,
    rows: &[TaskLogRow],
) -> Result<u64, StorageError> {
    let done = sqlx::query(
        "INSERT INTO workflow_task_log \
             (execution_id, task_id, attempt, line_no, at, stream, text) \
         SELECT l.execution_id, l.task_id, l.attempt, l.line_no, l.at, l.stream, l.text \
         FROM unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::timestamptz[], \
             $6::text[], $7::text[]) \
             AS l (execution_id, task_id, attempt, line_no, at, stream, text) \
         WHERE EXISTS ( \
             SELECT FROM workflow_execution AS e WHERE e.execution_id = l.execution_id \
         ) \
         ON CONFLICT DO NOTHING",
    )
    .bind(
        rows.iter()
            .map(|row| row.execution_id.0)
            .collect::<Vec<_>>(),
    )
    .bind(rows.iter().map(|row| row.task_id.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.attempt).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.line_no).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(
        rows.iter()
            .map(|row| row.stream.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>())
    .execute(database)
    .await
    .map_err(StorageError::step("store lines of logs"))?;
    Ok(done.rows_affected())
}

/// Hands over the lines of an execution, or of one of its tasks, in the order of their time, beginning
/// behind what has been read of each attempt. Each is an object: the row, with the name of the task,
/// its visit and its item.
///
/// # Errors
///
/// When the database fails.
pub async fn read_task_log(
    pool: &PgPool,
    id: ExecutionId,
    task: Option<&str>,
    read: &[ReadUpTo],
    mut take: impl FnMut(Value),
) -> Result<(), StorageError> {
    let failed = || StorageError::step("read a log");
    let mut rows = sqlx::query_scalar(
        "SELECT json_build_object( \
             'execution_id', l.execution_id, 'task_id', l.task_id, 'task', t.task, \
             'visit', t.visit, 'item_index', t.item_index, 'attempt', l.attempt, \
             'line_no', l.line_no, 'at', l.at, 'stream', l.stream, 'text', l.text) \
         FROM workflow_task_log AS l \
         LEFT JOIN LATERAL ( \
             SELECT d.task, d.visit, d.item_index FROM workflow_task_detail AS d \
             WHERE d.execution_id = l.execution_id AND d.task_id = l.task_id LIMIT 1 \
         ) AS t ON true \
         LEFT JOIN unnest($3::uuid[], $4::integer[], $5::integer[]) \
             AS r (task_id, attempt, line_no) ON r.task_id = l.task_id AND r.attempt = l.attempt \
         WHERE l.execution_id = $1 AND ($2::text IS NULL OR t.task = $2) \
             AND l.line_no > coalesce(r.line_no, 0) \
         ORDER BY l.at, l.line_no, l.task_id, l.attempt",
    )
    .bind(id.0)
    .bind(task)
    .bind(read.iter().map(|read| read.task_id.0).collect::<Vec<_>>())
    .bind(read.iter().map(|read| read.attempt).collect::<Vec<_>>())
    .bind(read.iter().map(|read| read.line_no).collect::<Vec<_>>())
    .fetch(pool);
    while let Some(Json(line)) = rows.try_next().await.map_err(failed())? {
        take(line);
    }
    Ok(())
}
