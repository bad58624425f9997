//! What must hold so that nothing waits for ever unseen: whatever waits has somebody or something
//! that ends the wait.

use super::{
    Invariant,
    Query::{Executions, Fleet},
};

/// The invariants of waiting.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "nothing_waits_unseen",
        rule: "an execution that has not ended has a run that is with a worker or waits for a timer, and not only joins, tasks with needs and runs that are held back; or it is paused",
        query: Executions(
            "SELECT e.execution_id, concat('it is ', e.status, ', and nothing will happen to the runs ', \
                 e.live_runs) \
             FROM workflow_execution AS e \
             LEFT JOIN ( \
                 SELECT execution_id, bool_or(status IN ('dispatched', 'running') AND pool IS NOT NULL) AS is_with_a_worker \
                 FROM workflow_task \
                 WHERE execution_id = ANY ($1) \
                     AND status IN ('dispatched', 'running', 'retrying', 'delayed') \
                     AND (item_progress IS NULL OR item_progress ? 'put_off') AND NOT held \
                 GROUP BY execution_id \
             ) AS t ON t.execution_id = e.execution_id \
             WHERE e.execution_id = ANY ($1) AND CASE e.status \
                 WHEN 'running' THEN t.execution_id IS NULL \
                 WHEN 'pausing' THEN coalesce(NOT t.is_with_a_worker, true) \
                 WHEN 'cancelling' THEN t.execution_id IS NULL \
                 WHEN 'failing' THEN t.execution_id IS NULL \
                 ELSE false END",
        ),
    },
    Invariant {
        name: "a_pause_pauses",
        rule: "a paused execution has no run with a worker, and a running one holds no run back",
        query: Executions(
            "SELECT t.execution_id, concat('it is ', e.status, ', and run ', t.run, ' is ', t.status, \
                 CASE WHEN t.held THEN ' and held back' END) \
             FROM workflow_task AS t \
             JOIN workflow_execution AS e \
                 ON e.execution_id = t.execution_id AND e.execution_id = ANY ($1) \
             WHERE t.execution_id = ANY ($1) AND t.finished_at IS NULL AND CASE e.status \
                 WHEN 'paused' THEN t.status IN ('dispatched', 'running') \
                     AND t.item_progress IS NULL AND t.pool IS NOT NULL \
                 WHEN 'running' THEN t.held \
                 ELSE false END",
        ),
    },
    Invariant {
        name: "waits_have_timers",
        rule: "a run has a timer where it runs under a time limit, of its own or over all attempts (one that waits for a child not during a pause, a failure or a cancel), waits for its next attempt or its dispatch (or that of its items) and is not held back, or is with a worker after a cancel that does not let it finish",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' is ', t.status, ' and has no timer') \
             FROM workflow_task AS t \
             JOIN workflow_execution AS e \
                 ON e.execution_id = t.execution_id AND e.execution_id = ANY ($1) \
             LEFT JOIN workflow_timer AS w \
                 ON w.execution_id = t.execution_id AND w.run = t.run \
                 AND w.execution_id = ANY ($1) \
             CROSS JOIN LATERAL ( \
                 SELECT e.status = 'cancelling' AND NOT EXISTS ( \
                     SELECT FROM workflow_transition AS l \
                     WHERE l.execution_id = e.execution_id AND l.kind IN ('control_applied', 'execution_status_changed') \
                         AND l.task_id IS NULL AND l.detail ? 'allow_finish' \
                 ) AS is_told \
             ) AS c \
             WHERE t.execution_id = ANY ($1) AND w.run IS NULL AND CASE t.status \
                 WHEN 'running' THEN CASE WHEN t.item_progress IS NULL AND t.pool IS NULL \
                     THEN e.status = 'running' AND t.item_of IS NULL \
                         AND (t.timeout_s IS NOT NULL OR t.branch ? 'until') \
                     WHEN t.item_progress IS NULL THEN t.timeout_s IS NOT NULL OR t.branch ? 'until' OR c.is_told \
                     ELSE t.item_progress ? 'put_off' \
                         OR (t.branch ? 'until' AND e.status <> 'cancelling') END \
                 WHEN 'dispatched' THEN t.branch ? 'until' OR c.is_told \
                 WHEN 'retrying' THEN NOT t.held \
                 WHEN 'delayed' THEN NOT t.held \
                 ELSE false END",
        ),
    },
    Invariant {
        name: "timers_have_live_runs",
        rule: "a timer belongs to a run that has not ended, or to the whole, of an execution that has not ended",
        query: Executions(
            "SELECT w.execution_id, concat('a ', w.kind, ' timer of run ', w.run, ', which ', \
                 CASE WHEN t.run IS NULL THEN 'does not exist' ELSE concat('is ', t.status) END) \
             FROM workflow_timer AS w \
             JOIN workflow_execution AS e \
                 ON e.execution_id = w.execution_id AND e.execution_id = ANY ($1) \
             LEFT JOIN workflow_task AS t \
                 ON t.execution_id = w.execution_id AND t.run = w.run \
                 AND t.execution_id = ANY ($1) \
             WHERE w.execution_id = ANY ($1) AND ((t.run IS NULL AND w.run <> 0) OR t.finished_at IS NOT NULL \
                 OR e.finished_at IS NOT NULL)",
        ),
    },
    Invariant {
        name: "timers_fit_their_runs",
        rule: "a timer is of the kind that its run waits for; one of the whole is its time limit, which does not act during a pause or a cancel",
        query: Executions(
            "SELECT w.execution_id, \
                 concat('a ', w.kind, ' timer of run ', w.run, ', which is ', \
                     coalesce(t.status::text, 'the whole')) \
             FROM workflow_timer AS w \
             JOIN workflow_execution AS e \
                 ON e.execution_id = w.execution_id AND e.execution_id = ANY ($1) \
             LEFT JOIN workflow_task AS t \
                 ON t.execution_id = w.execution_id AND t.run = w.run \
                 AND t.execution_id = ANY ($1) \
             WHERE w.execution_id = ANY ($1) AND NOT coalesce(CASE w.kind \
                 WHEN 'retry' THEN t.status = 'retrying' AND NOT t.held \
                 WHEN 'deadline' THEN t.status = 'running' AND t.item_progress IS NULL \
                 WHEN 'dispatch' THEN (t.status = 'delayed' AND NOT t.held) \
                     OR coalesce(t.item_progress ? 'put_off', false) \
                 WHEN 'cancel' THEN t.status IN ('dispatched', 'running') \
                     AND t.item_progress IS NULL \
                 WHEN 'heartbeat' THEN t.status = 'running' AND t.item_progress IS NULL \
                 WHEN 'delay' THEN t.status = 'delayed' AND NOT t.held \
                 WHEN 'total_timeout' THEN t.branch ? 'until' \
                     AND (t.status IN ('dispatched', 'running') OR NOT t.held) \
                 WHEN 'execution_timeout' THEN w.run = 0 AND e.status IN ('running', 'failing') \
                 ELSE true END, false)",
        ),
    },
    Invariant {
        name: "timers_are_in_their_partition",
        rule: "a timer is in the partition of its execution",
        query: Executions(
            "SELECT e.execution_id, concat('the timer of run ', w.run, ' is in partition ', \
                 w.partition, ', the execution in partition ', e.partition) \
             FROM workflow_execution AS e \
             JOIN workflow_timer AS w \
                 ON w.execution_id = e.execution_id AND w.execution_id = ANY ($1) \
             WHERE e.execution_id = ANY ($1) AND w.partition <> e.partition",
        ),
    },
    Invariant {
        name: "timers_are_not_overdue",
        rule: "no timer is overdue by more than ten minutes while its partition has an owner that has run for longer than that; those of heartbeats move in the owner's memory",
        query: Fleet(
            "SELECT w.execution_id, concat('the ', w.kind, ' timer of run ', w.run, \
                 ' was due at ', w.due_at, ', and partition ', p.id, ' has an owner') \
             FROM coordinator_partition AS p \
             CROSS JOIN LATERAL ( \
                 SELECT t.execution_id, t.run, t.kind, t.due_at FROM workflow_timer AS t \
                 WHERE t.partition = p.id AND t.kind <> 'heartbeat' \
                     AND t.due_at < clock_timestamp() - interval '10 minutes' \
                 ORDER BY t.due_at LIMIT 100 \
             ) AS w \
             WHERE p.lease_expires_at > clock_timestamp() \
                 AND (SELECT c.started_at FROM coordinator AS c WHERE c.id = p.owner) \
                     < clock_timestamp() - interval '10 minutes'",
        ),
    },
];
