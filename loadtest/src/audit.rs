//! What Postgres says of a run's executions: what was lost, and what happened twice.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::failure::Failure;
use crate::shape::Workflow;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// Executions that were started and have no end, or no row at all.
    pub lost: i64,
    /// Executions, task runs and ends of attempts beyond the one that there has to be.
    pub doubled: i64,
}

/// Looks at the executions of a run by the range of their ids, which are made in order of time.
pub async fn audit(
    url: &str,
    workflow: &Workflow,
    ids: (Uuid, Uuid),
    started: usize,
) -> Result<Audit, Failure> {
    let mut connection = PgConnection::connect(url).await?;
    let (rows, finished, tasks): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(finished_at), coalesce(sum(tasks_total), 0)::bigint
         FROM workflow_execution_summary
         WHERE execution_id BETWEEN $1 AND $2 AND workflow = $3",
    )
    .bind(ids.0)
    .bind(ids.1)
    .bind(&workflow.reference)
    .fetch_one(&mut connection)
    .await?;
    let ends: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(ends - 1), 0)::bigint FROM (
             SELECT count(*) AS ends FROM workflow_transition
             WHERE execution_id BETWEEN $1 AND $2 AND kind IN ('task_ended', 'task_retry_scheduled')
               AND execution_id IN (SELECT execution_id FROM workflow_execution_summary WHERE workflow = $3)
             GROUP BY execution_id, task_id, attempt HAVING count(*) > 1
         ) AS doubled",
    )
    .bind(ids.0)
    .bind(ids.1)
    .bind(&workflow.reference)
    .fetch_one(&mut connection)
    .await?;
    // That nothing is lost and nothing doubled was found out; how the connection ends is no matter.
    let _ = connection.close().await;
    let started = i64::try_from(started).unwrap_or(i64::MAX);
    let more_runs = (tasks - finished * i64::from(workflow.tasks)).max(0);
    Ok(Audit {
        lost: (started - finished).max(0),
        doubled: (rows - started).max(0) + more_runs + ends,
    })
}
