//! What must hold of attempts, by the log.
//!
//! An attempt ends when another one follows, or when its run ends while it is with a worker. A run
//! that ends while it waits for its next attempt ends no attempt: the last one has ended before.

use super::{Invariant, Query::Executions};

/// The invariants of attempts.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "attempt_dispatched_once",
        rule: "every attempt that the log names was dispatched exactly once",
        query: Executions(
            "SELECT l.execution_id, concat('attempt ', l.attempt, ' of ', l.task_id, \
                 ' was dispatched ', count(*) FILTER (WHERE l.kind = 'task_dispatched'), ' times') \
             FROM workflow_transition AS l \
             WHERE l.execution_id = ANY ($1) AND l.task_id IS NOT NULL AND l.attempt >= 1 \
             GROUP BY l.execution_id, l.task_id, l.attempt \
             HAVING count(*) FILTER (WHERE l.kind = 'task_dispatched') <> 1",
        ),
    },
    Invariant {
        name: "attempt_ends_at_most_once",
        rule: "no attempt ends twice",
        query: Executions(
            "SELECT l.execution_id, \
                 concat('attempt ', l.attempt, ' of ', l.task_id, ' ended ', count(*), ' times') \
             FROM workflow_transition AS l \
             WHERE l.execution_id = ANY ($1) AND l.attempt >= 1 \
                 AND (l.kind = 'task_retry_scheduled' OR (l.kind = 'task_ended' \
                     AND l.from_status IN ('dispatched', 'running'))) \
             GROUP BY l.execution_id, l.task_id, l.attempt \
             HAVING count(*) > 1",
        ),
    },
    Invariant {
        name: "attempt_entries_in_order",
        rule: "an attempt is dispatched, then started, then ended",
        query: Executions(
            "SELECT l.execution_id, concat('attempt ', l.attempt, ' of ', l.task_id, ': ', \
                 string_agg(concat(l.seq, ' ', l.kind), ', ' ORDER BY l.seq)) \
             FROM workflow_transition AS l \
             WHERE l.execution_id = ANY ($1) AND l.task_id IS NOT NULL AND l.attempt >= 1 \
             GROUP BY l.execution_id, l.task_id, l.attempt \
             HAVING min(l.seq) < min(l.seq) FILTER (WHERE l.kind = 'task_dispatched') \
                 OR max(l.seq) FILTER (WHERE l.kind = 'task_started') \
                     > min(l.seq) FILTER (WHERE l.kind IN ('task_retry_scheduled', 'task_ended'))",
        ),
    },
    Invariant {
        name: "attempts_without_gap",
        rule: "the dispatched attempts of a run are numbered from 1 to its attempt, and are no more than max_attempts",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' is at attempt ', t.attempt, ' of ', \
                 t.max_attempts, ', and ', coalesce(l.count, 0), ' were dispatched, up to ', \
                 coalesce(l.last, 0)) \
             FROM workflow_task AS t \
             LEFT JOIN ( \
                 SELECT execution_id, task_id, count(*) AS count, max(attempt) AS last \
                 FROM workflow_transition \
                 WHERE execution_id = ANY ($1) AND kind = 'task_dispatched' \
                 GROUP BY execution_id, task_id \
             ) AS l ON l.execution_id = t.execution_id AND l.task_id = t.task_id \
             WHERE t.execution_id = ANY ($1) AND (t.attempt <> coalesce(l.count, 0) \
                 OR t.attempt <> coalesce(l.last, 0) OR t.attempt > t.max_attempts)",
        ),
    },
    Invariant {
        name: "attempts_do_not_overlap",
        rule: "an attempt is dispatched after the one before it has ended",
        query: Executions(
            "SELECT l.execution_id, concat('attempt ', l.attempt, ' of ', l.task_id, \
                 ' was dispatched after the ', coalesce(l.kind_before::text, 'nothing'), \
                 ' of attempt ', coalesce(l.attempt_before, 0)) \
             FROM ( \
                 SELECT execution_id, task_id, kind, attempt, \
                     lag(kind) OVER run AS kind_before, lag(attempt) OVER run AS attempt_before \
                 FROM workflow_transition \
                 WHERE execution_id = ANY ($1) \
                     AND kind IN ('task_dispatched', 'task_retry_scheduled') \
                 WINDOW run AS (PARTITION BY execution_id, task_id ORDER BY seq) \
             ) AS l \
             WHERE l.kind = 'task_dispatched' AND l.attempt > 1 \
                 AND (l.kind_before IS DISTINCT FROM 'task_retry_scheduled' \
                     OR l.attempt_before IS DISTINCT FROM l.attempt - 1)",
        ),
    },
    Invariant {
        name: "attempts_of_what_has_ended_have_ended",
        rule: "every dispatched attempt of a run or an execution that has ended has ended",
        query: Executions(
            "SELECT t.execution_id, \
                 concat('attempt ', l.attempt, ' of run ', t.run, ' was dispatched and never ended') \
             FROM ( \
                 SELECT execution_id, task_id, attempt FROM workflow_transition \
                 WHERE execution_id = ANY ($1) AND task_id IS NOT NULL AND attempt >= 1 \
                 GROUP BY execution_id, task_id, attempt \
                 HAVING NOT bool_or(kind = 'task_retry_scheduled' OR (kind = 'task_ended' \
                     AND coalesce(from_status, '') IN ('dispatched', 'running'))) \
             ) AS l \
             JOIN workflow_task AS t \
                 ON t.execution_id = l.execution_id AND t.task_id = l.task_id \
                 AND t.execution_id = ANY ($1) \
             JOIN workflow_execution AS e \
                 ON e.execution_id = t.execution_id AND e.execution_id = ANY ($1) \
             WHERE t.finished_at IS NOT NULL OR e.finished_at IS NOT NULL",
        ),
    },
    Invariant {
        name: "nothing_dispatched_after_cancel",
        rule: "once an execution is cancelled, none of its tasks is dispatched but those of finally, until it is run again",
        query: Executions(
            "SELECT l.execution_id, concat('it was cancelled in entry ', c.seq, \
                 ', and attempt ', l.attempt, ' of ', l.task_id, ' dispatched in entry ', l.seq) \
             FROM workflow_transition AS l \
             JOIN ( \
                 SELECT execution_id, seq, is_cancel, \
                     lead(seq) OVER (PARTITION BY execution_id ORDER BY seq) AS until \
                 FROM ( \
                     SELECT execution_id, seq, to_status = 'cancelling' \
                         OR coalesce(detail ->> 'command' = 'cancel', false) AS is_cancel \
                     FROM workflow_transition \
                     WHERE execution_id = ANY ($1) AND task_id IS NULL \
                         AND (to_status = 'cancelling' OR (kind = 'control_applied' \
                             AND detail ->> 'command' IN ('cancel', 'rerun'))) \
                 ) AS m \
             ) AS c ON c.execution_id = l.execution_id AND c.is_cancel AND c.seq < l.seq \
                 AND (c.until IS NULL OR c.until > l.seq) \
             WHERE l.execution_id = ANY ($1) AND l.kind = 'task_dispatched' \
                 AND NOT coalesce(l.detail ? 'finally', false)",
        ),
    },
    Invariant {
        name: "nothing_dispatched_while_paused",
        rule: "while an execution is paused, none of its tasks is dispatched",
        query: Executions(
            "SELECT l.execution_id, concat('it was paused in entry ', p.seq, \
                 ', and attempt ', l.attempt, ' of ', l.task_id, ' dispatched in entry ', l.seq) \
             FROM workflow_transition AS l \
             JOIN ( \
                 SELECT execution_id, seq, to_status, \
                     lead(seq) OVER (PARTITION BY execution_id ORDER BY seq) AS until \
                 FROM workflow_transition \
                 WHERE execution_id = ANY ($1) \
                     AND kind IN ('execution_started', 'execution_status_changed') \
             ) AS p ON p.execution_id = l.execution_id AND p.to_status IN ('pausing', 'paused') \
                 AND p.seq < l.seq AND (p.until IS NULL OR p.until > l.seq) \
             WHERE l.execution_id = ANY ($1) AND l.kind = 'task_dispatched'",
        ),
    },
];
