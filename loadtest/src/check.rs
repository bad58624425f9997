//! What Postgres says of the executions of a run.

use sqlx::{Connection, PgConnection};

use crate::Failure;

/// What is wrong after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Findings {
    /// Executions that have not succeeded.
    pub lost: i64,
    /// Attempts that have ended more than once.
    pub doubled: i64,
}

/// Connects to the database that the fleet uses.
pub async fn connect(url: &str) -> Result<PgConnection, Failure> {
    PgConnection::connect(url)
        .await
        .map_err(|error| format!("cannot reach the database: {error}").into())
}

/// Looks at the executions with the tag of a run.
pub async fn check(database: &mut PgConnection, tag: &str) -> Result<Findings, Failure> {
    let (lost, doubled) = sqlx::query_as(
        "WITH mine AS ( \
             SELECT execution_id, status FROM workflow_execution WHERE tags ->> 'loadtest' = $1 \
         ) \
         SELECT \
             (SELECT count(*) FROM mine WHERE status <> 'succeeded'), \
             (SELECT count(*) FROM ( \
                 SELECT FROM mine JOIN workflow_transition AS t USING (execution_id) \
                 WHERE t.kind = 'task_ended' \
                 GROUP BY t.execution_id, t.task_id, t.attempt HAVING count(*) > 1 \
             ) AS twice)",
    )
    .bind(tag)
    .fetch_one(database)
    .await?;
    Ok(Findings { lost, doubled })
}
