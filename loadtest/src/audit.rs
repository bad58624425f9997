//! What Postgres says of a run's executions: what was lost, and what happened twice.

use std::collections::BTreeMap;
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
    /// Attempts that were dispatched.
    pub attempts: u64,
    /// What contradicts the invariants of `flotilla check`.
    pub findings: Vec<Finding>,
}

/// The rows of one workflow.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    rows: i64,
    finished: i64,
    /// Task runs of those that have finished.
    runs: i64,
    attempts: i64,
}

/// Looks at the executions of a run: at their number by the range of their ids, which are made in
/// order of time, and at the rows of all that was created in the last `passed`, the time of the run.
/// `started` says how many there were of each of the workflows.
pub async fn audit(
    url: &str,
    workflows: &[Workflow],
    ids: (Uuid, Uuid),
    started: &[usize],
    passed: Duration,
) -> Result<Audit, Failure> {
    let mut connection = connect_read_only(url).await?;
    let names: Vec<&str> = workflows.iter().map(|w| w.reference.as_str()).collect();
    let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT workflow, count(*), count(finished_at),
             coalesce(sum(tasks_total) FILTER (WHERE finished_at IS NOT NULL), 0)::bigint,
             coalesce(sum(attempts_total), 0)::bigint
         FROM workflow_execution_summary
         WHERE execution_id BETWEEN $1 AND $2 AND workflow = ANY ($3)
         GROUP BY workflow",
    )
    .bind(ids.0)
    .bind(ids.1)
    .bind(names)
    .fetch_all(&mut connection)
    .await?;
    let found: BTreeMap<String, Found> = rows
        .into_iter()
        .map(|(name, rows, finished, runs, attempts)| {
            let found = Found {
                rows,
                finished,
                runs,
                attempts,
            };
            (name, found)
        })
        .collect();
    let findings = check::check(&mut connection, Since::Ago(passed))
        .await?
        .findings;
    // That nothing is lost and nothing doubled was found out; how the connection ends is no matter.
    let _ = connection.close().await;
    Ok(judge(workflows, started, &found, findings))
}

fn judge(
    workflows: &[Workflow],
    started: &[usize],
    found: &BTreeMap<String, Found>,
    findings: Vec<Finding>,
) -> Audit {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let is_doubled = |finding: &&Finding| DOUBLED.contains(&finding.invariant);
    let attempts = findings.iter().filter(is_doubled).count();
    let mut audit = Audit {
        lost: 0,
        doubled: number(attempts),
        attempts: 0,
        findings,
    };
    for (workflow, started) in workflows.iter().zip(started) {
        let found = found.get(&workflow.reference).copied().unwrap_or_default();
        let started = number(*started);
        let more_runs = found.runs - found.finished * i64::from(workflow.runs);
        audit.attempts += u64::try_from(found.attempts).unwrap_or(0);
        audit.lost += (started - found.finished).max(0);
        audit.doubled += (found.rows - started).max(0) + more_runs.max(0);
    }
    audit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Shape, Sizes};

    fn judged(rows: i64, finished: i64, runs: i64) -> (i64, i64) {
        let mix = Shape::Chain.mix(&Sizes::small());
        let found = Found {
            rows,
            finished,
            runs,
            attempts: runs,
        };
        let found = BTreeMap::from([("loadtest.chain".to_owned(), found)]);
        let audit = judge(&mix.workflows, &[5], &found, Vec::new());
        (audit.lost, audit.doubled)
    }

    #[test]
    fn what_is_missing_is_lost_and_what_is_too_much_is_doubled() {
        assert_eq!(judged(5, 5, 15), (0, 0));
        assert_eq!(judged(5, 4, 12), (1, 0));
        assert_eq!(judged(5, 4, 14), (1, 2));
        assert_eq!(judged(4, 4, 12), (1, 0));
        assert_eq!(judged(6, 6, 19), (0, 2));
    }

    #[test]
    fn a_workflow_without_any_row_is_lost() {
        let mix = Shape::Single.mix(&Sizes::small());
        let audit = judge(&mix.workflows, &[2], &BTreeMap::new(), Vec::new());
        assert_eq!((audit.lost, audit.doubled), (2, 0));
    }

    #[test]
    fn attempts_that_happened_twice_are_doubled() {
        let mix = Shape::Single.mix(&Sizes::small());
        let finding = |invariant| Finding {
            invariant,
            execution_id: None,
            detail: String::new(),
        };
        let findings = vec![finding(DOUBLED[0]), finding("log_without_gap")];
        let audit = judge(&mix.workflows, &[0], &BTreeMap::new(), findings);
        assert_eq!((audit.lost, audit.doubled), (0, 1));
    }
}
