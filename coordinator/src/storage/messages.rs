//! Messages that could not be used, and messages under suspicion. Whatever such a message says, its
//! row can be written: what Postgres cannot hold is replaced.

use std::borrow::Cow;

use flotilla_protocol::{ExecutionId, TaskId};
use flotilla_turn::Mark;
use serde_json::Value;
use sqlx::PgExecutor;
use sqlx::types::Json;
use uuid::Uuid;

use super::StorageError;

/// A message that could not be used.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterRow {
    /// The same for every delivery of the message.
    pub key: String,
    /// The queue in which it was found unusable.
    pub queue: String,
    /// Why.
    pub reason: String,
    /// Its id.
    pub message_id: Option<String>,
    /// The execution that it names.
    pub execution_id: Option<ExecutionId>,
    /// The run that it names.
    pub task_id: Option<TaskId>,
    /// All properties and headers.
    pub properties: Value,
    /// Its body.
    pub body: Vec<u8>,
}

/// Records a dead letter; whether it is to be looked at anew, since it is new or had been resolved.
///
/// One that comes again is open again: it was retried and has died again. Where it was never
/// resolved, only its time moves, by which whoever is retrying it sees that it has come again.
///
/// # Errors
///
/// When the database fails.
pub async fn insert_dead_letter(
    database: impl PgExecutor<'_>,
    letter: &DeadLetterRow,
) -> Result<bool, StorageError> {
    let lossy = String::from_utf8_lossy(&letter.body);
    let body = storable(&lossy);
    let bytes = (body.as_bytes() != letter.body).then_some(letter.body.as_slice());
    let mut properties = letter.properties.clone();
    make_storable(&mut properties);
    sqlx::query_scalar(
        "WITH before AS ( \
             SELECT resolved_at FROM workflow_dead_letter WHERE message_key = $1 \
         ) \
         INSERT INTO workflow_dead_letter AS d ( \
             message_key, queue, reason, message_id, execution_id, task_id, properties, body, \
             body_bytes \
         ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (message_key) DO UPDATE \
         SET received_at = clock_timestamp(), reason = excluded.reason, \
             properties = excluded.properties, resolved_at = NULL, resolution = NULL \
         RETURNING NOT EXISTS (SELECT FROM before WHERE resolved_at IS NULL)",
    )
    .bind(storable(&letter.key))
    .bind(storable(&letter.queue))
    .bind(storable(&letter.reason))
    .bind(letter.message_id.as_deref().map(storable))
    .bind(letter.execution_id.map(|id| id.0))
    .bind(letter.task_id.map(|id| id.0))
    .bind(Json(&properties))
    .bind(body.as_ref())
    .bind(bytes)
    .fetch_one(database)
    .await
    .map_err(StorageError::step("record a dead letter"))
}

/// The text without U+0000, which Postgres cannot hold.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Takes U+0000 out of all texts of a JSON value.
fn make_storable(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(changed) = storable(text) {
                *text = changed;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_storable),
        Value::Object(members) => {
            for (name, mut member) in std::mem::take(members) {
                make_storable(&mut member);
                members.insert(storable(&name).into_owned(), member);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Marks a message as suspect before `owner` takes it alone, unless it bears the mark of another
/// coordinator that lives. Who has stopped cleanly was not killed by it.
///
/// # Errors
///
/// When the database fails.
pub async fn mark_suspect(
    database: impl PgExecutor<'_>,
    key: &str,
    owner: Uuid,
    lease_s: f64,
) -> Result<Mark, StorageError> {
    let (is_marked, was_marked, is_innocent): (bool, bool, bool) = sqlx::query_as(
        "WITH found AS ( \
             SELECT s.owner, c.stopped_at IS NOT NULL AS has_stopped, \
                 c.id IS NOT NULL AND c.stopped_at IS NULL \
                     AND c.seen_at > clock_timestamp() - make_interval(secs => $3) AS lives \
             FROM workflow_suspect_message AS s LEFT JOIN coordinator AS c ON c.id = s.owner \
             WHERE s.key = $1 \
         ), marked AS ( \
             INSERT INTO workflow_suspect_message AS s (key, owner) VALUES ($1, $2) \
             ON CONFLICT (key) DO UPDATE SET owner = $2, seen_at = clock_timestamp() \
                 WHERE s.owner = $2 OR NOT coalesce((SELECT lives FROM found), false) \
             RETURNING s.key \
         ) \
         SELECT EXISTS (SELECT FROM marked), EXISTS (SELECT FROM found), \
             coalesce((SELECT has_stopped OR owner = $2 FROM found), false)",
    )
    .bind(storable(key))
    .bind(owner)
    .bind(lease_s)
    .fetch_one(database)
    .await
    .map_err(StorageError::step("mark a message as suspect"))?;
    Ok(match (is_marked, was_marked && !is_innocent) {
        (false, _) => Mark::OfTheLiving,
        (true, false) => Mark::Ours,
        (true, true) => Mark::OfTheDead,
    })
}

/// Takes a mark back, if it is still that of `owner`.
///
/// # Errors
///
/// When the database fails.
pub async fn clear_suspect(
    database: impl PgExecutor<'_>,
    key: &str,
    owner: Uuid,
) -> Result<(), StorageError> {
    sqlx::query("DELETE FROM workflow_suspect_message WHERE key = $1 AND owner = $2")
        .bind(storable(key))
        .bind(owner)
        .execute(database)
        .await
        .map_err(StorageError::step("clear a message of suspicion"))?;
    Ok(())
}
