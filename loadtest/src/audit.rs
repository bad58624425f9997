//! What Postgres says of a run's executions: what was lost, and what happened twice.

use std::time::Duration;

use flotilla_coordinator::storage::check::{self, Finding, Since};
use flotilla_coordinator::storage::connect_read_only;
use sqlx::Connection;
use uuid::Uuid;

use crate::failure::Failure;
use crate::shape::Workflow;

/// Invariants that an attempt violates which happened twice.
const DOUBLED: [&str; 2] = ["attempt_dispatched_once", "attempt_ends_at_most_once"];

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Executions that were started and have no end, or no row at all.
    pub lost: i64,
    /// Executions, task runs, dispatches and ends of attempts beyond the one that there has to be.
    pub doubled: i64,
    /// What contradicts the invariants of `flotilla check`.
    pub findings: Vec<Finding>,
}

/// Looks at the executions of a run: at their number by the range of their ids, which are made in
/// order of time, and at the rows of all that was created in the last `passed`, the time of the run.
pub async fn audit(
    url: &str,
    workflow: &Workflow,
    ids: (Uuid, Uuid),
    started: usize,
    passed: Duration,
) -> Result<Audit, Failure> {
    let mut connection = connect_read_only(url).await?;
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
    let findings = check::check(&mut connection, Since::Ago(passed))
        .await?
        .findings;
    let is_doubled = |finding: &&Finding| DOUBLED.contains(&finding.invariant);
    let attempts = findings.iter().filter(is_doubled).count();
    // That nothing is lost and nothing doubled was found out; how the connection ends is no matter.
    let _ = connection.close().await;
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let started = number(started);
    let more_runs = (tasks - finished * i64::from(workflow.tasks)).max(0);
    Ok(Audit {
        lost: (started - finished).max(0),
        doubled: (rows - started).max(0) + more_runs + number(attempts),
        findings,
    })
}
