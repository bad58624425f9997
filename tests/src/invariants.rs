//! What must hold of the rows of any fleet, whatever has happened to its processes.

use crate::database::Database;

/// What each query finds is a violation: the execution, and what is wrong with it.
const ALWAYS: [(&str, &str); 9] = [
    (
        "transitions are numbered 1 to n without a gap",
        "SELECT e.execution_id::text, concat(count(t.seq), ' rows, ', min(t.seq), ' to ', max(t.seq), ', last_seq ', e.last_seq)
         FROM workflow_execution_summary e LEFT JOIN workflow_transition t USING (execution_id)
         GROUP BY e.execution_id, e.last_seq
         HAVING count(t.seq) <> e.last_seq OR min(t.seq) <> 1 OR max(t.seq) <> e.last_seq",
    ),
    (
        "no transition is without its execution",
        "SELECT DISTINCT t.execution_id::text, 'no such execution' FROM workflow_transition t
         WHERE NOT EXISTS (SELECT FROM workflow_execution_summary e WHERE e.execution_id = t.execution_id)",
    ),
    (
        "the counts of an execution are those of its tasks",
        "SELECT e.execution_id::text, concat(to_jsonb(e) - 'parameters' - 'variables', ' but ', to_jsonb(c))
         FROM workflow_execution_summary e LEFT JOIN (
             SELECT execution_id, count(*) AS total,
                 count(*) FILTER (WHERE status IN ('waiting', 'delayed', 'dispatched', 'running', 'retrying')) AS active,
                 count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
                 count(*) FILTER (WHERE status = 'failed') AS failed,
                 count(*) FILTER (WHERE status = 'timed_out') AS timed_out,
                 count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
                 count(*) FILTER (WHERE status = 'skipped') AS skipped,
                 count(*) FILTER (WHERE status = 'omitted') AS omitted,
                 sum(attempt) AS attempts
             FROM workflow_task_detail GROUP BY execution_id
         ) c USING (execution_id)
         WHERE e.tasks_total <> coalesce(c.total, 0) OR e.tasks_active <> coalesce(c.active, 0)
            OR e.tasks_succeeded <> coalesce(c.succeeded, 0) OR e.tasks_failed <> coalesce(c.failed, 0)
            OR e.tasks_timed_out <> coalesce(c.timed_out, 0) OR e.tasks_cancelled <> coalesce(c.cancelled, 0)
            OR e.tasks_skipped <> coalesce(c.skipped, 0) OR e.tasks_omitted <> coalesce(c.omitted, 0)
            OR e.attempts_total <> coalesce(c.attempts, 0)",
    ),
    (
        "nothing lives in an execution that has finished",
        "SELECT e.execution_id::text, concat(t.task, ' is ', t.status)
         FROM workflow_execution_summary e JOIN workflow_task_detail t USING (execution_id)
         WHERE e.finished_at IS NOT NULL AND t.finished_at IS NULL",
    ),
    (
        "an execution that has finished has no timer",
        "SELECT e.execution_id::text, concat(t.kind, ' of run ', t.run)
         FROM workflow_timer t LEFT JOIN workflow_execution_summary e USING (execution_id)
         WHERE e.execution_id IS NULL OR e.finished_at IS NOT NULL",
    ),
    (
        "an attempt is dispatched once, and ends at most once",
        "SELECT execution_id::text, concat('attempt ', attempt, ' of ', task_id, ': ', dispatched, ' dispatched, ', ended, ' ended')
         FROM (
             SELECT execution_id, task_id, attempt,
                 count(*) FILTER (WHERE kind = 'task_dispatched') AS dispatched,
                 count(*) FILTER (WHERE kind IN ('task_ended', 'task_retry_scheduled')) AS ended
             FROM workflow_transition WHERE attempt >= 1 GROUP BY execution_id, task_id, attempt
         ) a WHERE dispatched <> 1 OR ended > 1",
    ),
    (
        "in an execution that has finished, every dispatched attempt has ended",
        "SELECT execution_id::text, concat('attempt ', attempt, ' of ', task_id, ' was dispatched and never ended')
         FROM workflow_transition t JOIN workflow_execution_summary e USING (execution_id)
         WHERE e.finished_at IS NOT NULL AND attempt >= 1
         GROUP BY execution_id, task_id, attempt
         HAVING count(*) FILTER (WHERE kind IN ('task_ended', 'task_retry_scheduled')) <> 1",
    ),
    (
        "an execution starts once and ends once",
        "SELECT execution_id::text, concat(started, ' starts, ', ended, ' ends, ', status)
         FROM (
             SELECT e.execution_id, e.status, e.finished_at,
                 count(*) FILTER (WHERE kind = 'execution_started') AS started,
                 count(*) FILTER (WHERE kind = 'execution_status_changed'
                     AND to_status IN ('succeeded', 'failed', 'cancelled', 'timed_out')) AS ended
             FROM workflow_execution_summary e JOIN workflow_transition t USING (execution_id)
             GROUP BY e.execution_id, e.status, e.finished_at
         ) c WHERE started <> 1 OR ended <> (CASE WHEN finished_at IS NULL THEN 0 ELSE 1 END)",
    ),
    (
        "each start has its execution, and each execution its start",
        "SELECT coalesce(s.execution_id, e.execution_id)::text, 'one without the other'
         FROM workflow_start s FULL JOIN workflow_execution_summary e USING (execution_id)
         WHERE s.execution_id IS NULL OR e.execution_id IS NULL",
    ),
];

/// What must hold besides once everything has finished and all coordinators have stopped cleanly.
const AT_REST: [(&str, &str); 3] = [
    (
        "every execution has finished",
        "SELECT execution_id::text, status::text FROM workflow_execution_summary WHERE finished_at IS NULL",
    ),
    (
        "the outbox is empty",
        "SELECT partition::text, concat('turn ', turn) FROM workflow_outbox o",
    ),
    (
        "no partition is owned",
        "SELECT id::text, concat('owned by ', owner) FROM coordinator_partition
         WHERE owner IS NOT NULL AND lease_expires_at > now()",
    ),
];

/// Checks what must hold at any time.
pub async fn check(database: &Database) {
    assert_none(&violations(database, &ALWAYS).await);
}

/// Checks what must hold after a clean stop with nothing left to do.
pub async fn check_at_rest(database: &Database) {
    let mut found = violations(database, &ALWAYS).await;
    found.extend(violations(database, &AT_REST).await);
    assert_none(&found);
}

async fn violations(database: &Database, checks: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (rule, query) in checks {
        let rows: Vec<(String, String)> = database.rows(query).await;
        let count = rows.len();
        for (subject, detail) in rows.into_iter().take(3) {
            found.push(format!("{rule} ({count} violations): {subject}: {detail}"));
        }
    }
    found
}

fn assert_none(found: &[String]) {
    assert!(
        found.is_empty(),
        "invariants do not hold:\n{}",
        found.join("\n")
    );
}
