//! What must hold of the row of an execution: at one with its runs, its start and its definition.

use super::{Invariant, Query::Executions};

/// The invariants of executions.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "counts_are_those_of_the_runs",
        rule: "the counts of an execution are those of its runs",
        query: Executions(
            "SELECT e.execution_id, concat('the row says ', e.counts, ', the runs ', \
                 coalesce(t.counts, '{0,0,0,0,0,0,0,0,0}')) \
             FROM ( \
                 SELECT execution_id, ARRAY[tasks_total, tasks_active, tasks_succeeded, \
                     tasks_failed, tasks_timed_out, tasks_cancelled, tasks_skipped, \
                     tasks_omitted, attempts_total]::bigint[] AS counts \
                 FROM workflow_execution WHERE execution_id = ANY ($1) \
             ) AS e \
             LEFT JOIN ( \
                 SELECT execution_id, ARRAY[count(*), \
                     count(*) FILTER (WHERE finished_at IS NULL), \
                     count(*) FILTER (WHERE status = 'succeeded'), \
                     count(*) FILTER (WHERE status = 'failed'), \
                     count(*) FILTER (WHERE status = 'timed_out'), \
                     count(*) FILTER (WHERE status = 'cancelled'), \
                     count(*) FILTER (WHERE status = 'skipped'), \
                     count(*) FILTER (WHERE status = 'omitted'), sum(attempt)] AS counts \
                 FROM workflow_task WHERE execution_id = ANY ($1) GROUP BY execution_id \
             ) AS t ON t.execution_id = e.execution_id \
             WHERE e.counts <> coalesce(t.counts, '{0,0,0,0,0,0,0,0,0}')",
        ),
    },
    Invariant {
        name: "live_runs_are_those_without_end",
        rule: "live_runs lists exactly the runs that have not ended, ascending",
        query: Executions(
            "SELECT e.execution_id, concat('live_runs is ', e.live_runs, ', and ', \
                 coalesce(t.runs, '{}'), ' have not ended') \
             FROM workflow_execution AS e \
             LEFT JOIN ( \
                 SELECT execution_id, array_agg(run ORDER BY run) AS runs FROM workflow_task \
                 WHERE execution_id = ANY ($1) AND finished_at IS NULL GROUP BY execution_id \
             ) AS t ON t.execution_id = e.execution_id \
             WHERE e.execution_id = ANY ($1) AND e.live_runs <> coalesce(t.runs, '{}')",
        ),
    },
    Invariant {
        name: "nothing_lives_after_the_end",
        rule: "an execution that has ended has no run that has not",
        query: Executions(
            "SELECT e.execution_id, concat('it is ', e.status, ', and run ', t.run, ' ', t.status) \
             FROM workflow_execution AS e \
             JOIN workflow_task AS t \
                 ON t.execution_id = e.execution_id AND t.execution_id = ANY ($1) \
             WHERE e.execution_id = ANY ($1) AND e.finished_at IS NOT NULL \
                 AND t.finished_at IS NULL",
        ),
    },
    Invariant {
        name: "start_fits_the_execution",
        rule: "an execution has its start, with the same workflow, partition and key",
        query: Executions(
            "SELECT e.execution_id, CASE WHEN s.execution_id IS NULL THEN 'it has no start' \
                 ELSE concat('the start is of ', s.workflow, ' in partition ', s.partition, \
                     ' with the key ', coalesce(s.idempotency_key, 'none')) END \
             FROM workflow_execution AS e \
             LEFT JOIN workflow_start AS s \
                 ON s.execution_id = e.execution_id AND s.execution_id = ANY ($1) \
             WHERE e.execution_id = ANY ($1) AND (s.execution_id IS NULL \
                 OR s.workflow <> e.workflow OR s.partition <> e.partition \
                 OR s.idempotency_key IS DISTINCT FROM e.idempotency_key)",
        ),
    },
    Invariant {
        name: "keys_are_unique",
        rule: "no two starts have the same idempotency key",
        query: Executions(
            "SELECT s.execution_id, concat('another start has the key ', s.idempotency_key) \
             FROM workflow_start AS s \
             WHERE s.execution_id = ANY ($1) AND s.idempotency_key IS NOT NULL \
                 AND (SELECT count(*) FROM workflow_start AS o \
                     WHERE o.idempotency_key = s.idempotency_key) > 1",
        ),
    },
    Invariant {
        name: "definition_exists",
        rule: "the definition of an execution exists, and is of its workflow and version",
        query: Executions(
            "SELECT e.execution_id, concat('the definition ', encode(e.definition_hash, 'hex'), \
                 ' of ', e.workflow, ' ', e.version, ' ', CASE WHEN d.hash IS NULL THEN \
                 'does not exist' ELSE concat('is of ', d.workflow, ' ', d.version) END) \
             FROM workflow_execution AS e \
             LEFT JOIN workflow_definition AS d ON d.hash = e.definition_hash \
             WHERE e.execution_id = ANY ($1) AND (d.hash IS NULL \
                 OR d.workflow <> e.workflow OR d.version <> e.version)",
        ),
    },
    Invariant {
        name: "partition_exists",
        rule: "the partition of an execution exists",
        query: Executions(
            "SELECT e.execution_id, concat('partition ', e.partition, ' does not exist') \
             FROM workflow_execution AS e \
             LEFT JOIN coordinator_partition AS p ON p.id = e.partition \
             WHERE e.execution_id = ANY ($1) AND p.id IS NULL",
        ),
    },
    Invariant {
        name: "execution_times_in_order",
        rule: "an execution ends after its creation, but for a minute that a clock may be set back",
        query: Executions(
            "SELECT e.execution_id, \
                 concat('it was created at ', e.created_at, ' and ended at ', e.finished_at) \
             FROM workflow_execution AS e \
             WHERE e.execution_id = ANY ($1) \
                 AND e.finished_at < e.created_at - interval '1 minute'",
        ),
    },
    Invariant {
        name: "errors_fit_the_status",
        rule: "an execution that has failed or timed out, or is failing, has an error; one that was cancelled may have one, and one that is paused where it goes on after failures; others have none",
        query: Executions(
            "SELECT e.execution_id, concat('it is ', e.status, ', and its errors are ', e.errors) \
             FROM workflow_execution AS e \
             WHERE e.execution_id = ANY ($1) AND CASE e.status \
                 WHEN 'failed' THEN e.errors = '[]' \
                 WHEN 'failing' THEN e.errors = '[]' \
                 WHEN 'pausing' THEN false \
                 WHEN 'paused' THEN false \
                 WHEN 'cancelling' THEN false \
                 WHEN 'cancelled' THEN false \
                 WHEN 'timed_out' THEN e.errors = '[]' \
                 ELSE e.errors <> '[]' END",
        ),
    },
];
