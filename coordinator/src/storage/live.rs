//! What is asked about executions outside of turns: which partition one belongs to, which commands
//! were carried out, and which jobs have not been heard of for long.

use flotilla_protocol::ExecutionId;
use flotilla_turn::rows::{ControlLookup, LostJob, PartitionNo};
use sqlx::PgExecutor;
use sqlx::postgres::{PgBindIterExt, PgRow};
use uuid::Uuid;

use super::StorageError;
use super::load_rows::{self, Reader};

/// Lost jobs that one look finds at most; the next look finds the rest.
const MAX_LOST_JOBS: i64 = 1000;

/// The partition of an execution; `None` if there is no such execution.
///
/// # Errors
///
/// When the database fails.
pub async fn partition_of(
    database: impl PgExecutor<'_>,
    id: ExecutionId,
) -> Result<Option<PartitionNo>, StorageError> {
    sqlx::query_scalar("SELECT partition FROM workflow_start WHERE execution_id = $1")
        .bind(id.0)
        .fetch_optional(database)
        .await
        .map_err(StorageError::step("look up a partition"))
}

/// Those of the commands that were carried out: their names stand in the log.
///
/// # Errors
///
/// When the database fails.
pub async fn load_controls(
    database: impl PgExecutor<'_>,
    lookups: &[ControlLookup],
) -> Result<Vec<ControlLookup>, StorageError> {
    let lookups = || lookups.iter();
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "SELECT DISTINCT l.execution_id, l.message_id \
         FROM unnest($1, $2) AS l (execution_id, message_id) \
         JOIN workflow_transition AS t ON t.execution_id = l.execution_id \
             AND t.kind = 'control_applied' AND t.detail ->> 'message_id' = l.message_id",
    )
    .bind(lookups().map(|l| l.execution_id.0).bind_iter())
    .bind(lookups().map(|l| l.message_id.as_str()).bind_iter())
    .fetch_all(database)
    .await
    .map_err(StorageError::step("look commands up"))?;
    let found = rows.into_iter().map(|(id, message_id)| ControlLookup {
        execution_id: ExecutionId(id),
        message_id,
    });
    Ok(found.collect())
}

/// The pools of jobs of these partitions that were dispatched more than `resend_after_s` seconds ago
/// and that nobody has started. Whether these are lost the queues must tell; a pool may have any number
/// that merely wait, so that they are not loaded before.
///
/// # Errors
///
/// When the database fails.
pub async fn load_silent_pools(
    database: impl PgExecutor<'_>,
    partitions: &[PartitionNo],
    resend_after_s: f64,
) -> Result<Vec<String>, StorageError> {
    sqlx::query_scalar(
        "SELECT DISTINCT t.pool \
         FROM workflow_execution AS e \
         JOIN workflow_task AS t \
             ON t.execution_id = e.execution_id AND t.run = ANY (e.live_runs) \
         WHERE e.finished_at IS NULL AND e.partition = ANY ($1) AND t.status = 'dispatched' \
             AND t.dispatched_at < clock_timestamp() - make_interval(secs => $2)",
    )
    .bind(partitions)
    .bind(resend_after_s)
    .fetch_all(database)
    .await
    .map_err(StorageError::step("look for pools of lost jobs"))
}

/// The jobs behind [`load_silent_pools`] in some of its pools, each with its pool, the oldest first.
///
/// # Errors
///
/// When the database fails.
pub async fn load_silent_jobs(
    database: impl PgExecutor<'_>,
    partitions: &[PartitionNo],
    pools: &[String],
    resend_after_s: f64,
) -> Result<Vec<(LostJob, String)>, StorageError> {
    let rows = sqlx::query(
        "SELECT t.execution_id, t.run::bigint, t.attempt::bigint, t.pool, e.partition \
         FROM workflow_execution AS e \
         JOIN workflow_task AS t \
             ON t.execution_id = e.execution_id AND t.run = ANY (e.live_runs) \
         WHERE e.finished_at IS NULL AND e.partition = ANY ($1) AND t.status = 'dispatched' \
             AND t.pool = ANY ($2) \
             AND t.dispatched_at < clock_timestamp() - make_interval(secs => $3) \
         ORDER BY t.dispatched_at, t.execution_id, t.run LIMIT $4",
    )
    .bind(partitions)
    .bind(pools)
    .bind(resend_after_s)
    .bind(MAX_LOST_JOBS)
    .fetch_all(database)
    .await
    .map_err(StorageError::step("look for lost jobs"))?;
    rows.iter().map(silent_job).collect()
}

fn silent_job(row: &PgRow) -> Result<(LostJob, String), StorageError> {
    let reader = Reader {
        table: "workflow_task",
        row,
    };
    let job = LostJob {
        partition: reader.read("partition")?,
        execution_id: load_rows::execution_id(&reader)?,
        run: reader.number("run")?,
        attempt: reader.number("attempt")?,
    };
    Ok((job, reader.read("pool")?))
}
