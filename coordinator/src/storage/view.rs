//! What people look at: the rows of the views, as JSON.

use chrono::{DateTime, Utc};
use flotilla_protocol::ExecutionId;
use serde_json::Value;
use sqlx::PgExecutor;
use sqlx::types::Json;
use uuid::Uuid;

use super::StorageError;

/// Which executions to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFilter {
    /// A word of `execution_status`.
    pub status: Option<String>,
    /// Reference of a workflow.
    pub workflow: Option<String>,
    /// Rows at most.
    pub limit: u32,
    /// Where the list before ended.
    pub cursor: Option<String>,
}

/// One execution with all that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Its row of `workflow_execution_summary`.
    pub execution: Value,
    /// Its rows of `workflow_task_detail`, in the order of creation.
    pub tasks: Vec<Value>,
    /// Its rows of `workflow_transition`, in order.
    pub transitions: Vec<Value>,
}

/// Rows of `workflow_execution_summary`, the newest first, and a cursor if there are more.
///
/// # Errors
///
/// When the database fails, or the cursor is none.
pub async fn list(
    database: impl PgExecutor<'_>,
    filter: &ListFilter,
) -> Result<(Vec<Value>, Option<String>), StorageError> {
    let (before, before_id) = filter
        .cursor
        .as_deref()
        .map(read_cursor)
        .transpose()?
        .unzip();
    let rows: Vec<(Json<Value>, DateTime<Utc>, Uuid)> = sqlx::query_as(
        "SELECT row_to_json(s), s.created_at, s.execution_id \
         FROM workflow_execution_summary AS s \
         WHERE ($1::text IS NULL OR s.status::text = $1) \
             AND ($2::text IS NULL OR s.workflow = $2) \
             AND ($3::timestamptz IS NULL OR (s.created_at, s.execution_id) < ($3, $4)) \
         ORDER BY s.created_at DESC, s.execution_id DESC \
         LIMIT $5",
    )
    .bind(&filter.status)
    .bind(&filter.workflow)
    .bind(before)
    .bind(before_id)
    .bind(i64::from(filter.limit) + 1)
    .fetch_all(database)
    .await
    .map_err(StorageError::step("list executions"))?;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let last = limit.checked_sub(1).and_then(|last| rows.get(last));
    let next = last
        .filter(|_| rows.len() > limit)
        .map(|(_, created_at, id)| format!("{}.{id}", created_at.timestamp_micros()));
    let values = rows.into_iter().take(limit).map(|(Json(row), ..)| row);
    Ok((values.collect(), next))
}

fn read_cursor(cursor: &str) -> Result<(DateTime<Utc>, Uuid), StorageError> {
    let (micros, id) = cursor.split_once('.').ok_or(StorageError::Cursor)?;
    let micros = micros.parse().map_err(|_| StorageError::Cursor)?;
    let created_at = DateTime::from_timestamp_micros(micros).ok_or(StorageError::Cursor)?;
    let id = Uuid::parse_str(id).map_err(|_| StorageError::Cursor)?;
    Ok((created_at, id))
}

/// One execution with its tasks and its log; `None` if it does not exist.
///
/// # Errors
///
/// When the database fails.
pub async fn show(
    database: impl PgExecutor<'_>,
    id: ExecutionId,
) -> Result<Option<Shown>, StorageError> {
    // One statement, so that the three parts are of one moment. Ids of tasks ascend with their runs.
    type Parts = (Json<Value>, Json<Vec<Value>>, Json<Vec<Value>>);
    let row: Option<Parts> = sqlx::query_as(
        "SELECT row_to_json(s), \
             (SELECT coalesce(json_agg(t ORDER BY t.task_id, t.item_index NULLS FIRST), '[]') \
              FROM workflow_task_detail AS t WHERE t.execution_id = $1), \
             (SELECT coalesce(json_agg(l ORDER BY l.seq), '[]') \
              FROM workflow_transition AS l WHERE l.execution_id = $1) \
         FROM workflow_execution_summary AS s WHERE s.execution_id = $1",
    )
    .bind(id.0)
    .fetch_optional(database)
    .await
    .map_err(StorageError::step("show an execution"))?;
    Ok(
        row.map(|(Json(execution), Json(tasks), Json(transitions))| Shown {
            execution,
            tasks,
            transitions,
        }),
    )
}

/// The row of `workflow_execution_summary` of one execution; `None` if it does not exist.
///
/// # Errors
///
/// When the database fails.
pub async fn summary(
    database: impl PgExecutor<'_>,
    id: ExecutionId,
) -> Result<Option<Value>, StorageError> {
    let row: Option<(Json<Value>,)> = sqlx::query_as(
        "SELECT row_to_json(s) FROM workflow_execution_summary AS s WHERE s.execution_id = $1",
    )
    .bind(id.0)
    .fetch_optional(database)
    .await
    .map_err(StorageError::step("show a summary"))?;
    Ok(row.map(|(Json(summary),)| summary))
}

/// Where an execution stands, a word of `execution_status`; `None` if it does not exist.
///
/// # Errors
///
/// When the database fails.
pub async fn execution_status(
    database: impl PgExecutor<'_>,
    id: ExecutionId,
) -> Result<Option<String>, StorageError> {
    sqlx::query_scalar("SELECT status::text FROM workflow_execution WHERE execution_id = $1")
        .bind(id.0)
        .fetch_optional(database)
        .await
        .map_err(StorageError::step("look an execution up"))
}
