//! Dead letters as people look at them, and what they do with them. How they come in is the
//! business of `messages`.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgExecutor, Row};

use super::StorageError;

/// A dead letter as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The queue that it came from first.
    pub queue: String,
    /// Its properties and headers, an object.
    pub properties: Value,
    /// Its body, byte by byte.
    pub body: Vec<u8>,
    /// When it was recorded last; another time is another coming.
    pub received_at: DateTime<Utc>,
    /// What was done with it, if something was.
    pub resolution: Option<String>,
    /// The row as it is shown.
    pub row: Value,
}

/// What was done with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It was published again.
    Retried,
    /// Nobody wants it.
    Discarded,
}

impl Resolution {
    /// The word in `workflow_dead_letter.resolution`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Discarded => "discarded",
        }
    }
}

/// Dead letters that wait to be resolved, or all, the newest first: what a list shows of them.
///
/// # Errors
///
/// When the database fails.
pub async fn list_dead_letters(
    database: impl PgExecutor<'_>,
    all: bool,
    limit: u32,
) -> Result<Vec<Value>, StorageError> {
    let rows: Vec<Json<Value>> = sqlx::query_scalar(
        "SELECT row_to_json(l) FROM ( \
             SELECT d.id, d.queue, d.reason, d.message_id, d.execution_id, d.task_id, \
                 d.received_at, d.resolved_at, d.resolution \
             FROM workflow_dead_letter AS d \
             WHERE $1 OR d.resolved_at IS NULL \
             ORDER BY d.received_at DESC, d.id DESC LIMIT $2 \
         ) AS l",
    )
    .bind(all)
    .bind(i64::from(limit))
    .fetch_all(database)
    .await
    .map_err(StorageError::step("list dead letters"))?;
    Ok(rows.into_iter().map(|Json(row)| row).collect())
}

/// A dead letter by its number.
///
/// # Errors
///
/// When the database fails.
pub async fn load_dead_letter(
    database: impl PgExecutor<'_>,
    id: i64,
) -> Result<Option<DeadLetter>, StorageError> {
    let loaded = sqlx::query(
        "SELECT d.id, d.queue, d.properties, d.received_at, d.resolution, \
             coalesce(d.body_bytes, convert_to(d.body, 'UTF8')) AS bytes, \
             (SELECT row_to_json(l) FROM (SELECT d.id, d.queue, d.reason, d.message_id, \
                 d.execution_id, d.task_id, d.received_at, d.resolved_at, d.resolution) AS l) AS row \
         FROM workflow_dead_letter AS d WHERE d.id = $1",
    )
    .bind(id)
    .fetch_optional(database)
    .await;
    let read = |row: sqlx::postgres::PgRow| -> Result<DeadLetter, sqlx::Error> {
        let Json(properties) = row.try_get("properties")?;
        let Json(shown) = row.try_get("row")?;
        Ok(DeadLetter {
            id: row.try_get("id")?,
            queue: row.try_get("queue")?,
            properties,
            body: row.try_get("bytes")?,
            received_at: row.try_get("received_at")?,
            resolution: row.try_get("resolution")?,
            row: shown,
        })
    };
    loaded
        .and_then(|row| row.map(read).transpose())
        .map_err(StorageError::step("load a dead letter"))
}

/// Says what was done with a dead letter; false if it has been resolved or has come again meanwhile,
/// and then nothing is changed.
///
/// # Errors
///
/// When the database fails.
pub async fn resolve_dead_letter(
    database: impl PgExecutor<'_>,
    letter: &DeadLetter,
    resolution: Resolution,
) -> Result<bool, StorageError> {
    let done = sqlx::query(
        "UPDATE workflow_dead_letter AS d \
         SET resolved_at = clock_timestamp(), resolution = $3 \
         WHERE d.id = $1 AND d.received_at = $2 AND d.resolved_at IS NULL",
    )
    .bind(letter.id)
    .bind(letter.received_at)
    .bind(resolution.word())
    .execute(database)
    .await
    .map_err(StorageError::step("resolve a dead letter"))?;
    Ok(done.rows_affected() == 1)
}
