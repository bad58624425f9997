//! What must hold of tasks with items.

use super::{Invariant, Query::Executions};

/// The invariants of items.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "items_belong_to_their_task",
        rule: "an item belongs to an earlier run with items, of the same task and visit, that does not end before it",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' is item ', t.item_index, ' of run ', \
                 t.item_of, CASE WHEN w.run IS NULL THEN ', which has no items' \
                     ELSE concat(', which is visit ', w.visit, ' of ', w.task, ' and ', w.status) END) \
             FROM workflow_task AS t \
             LEFT JOIN workflow_task AS w \
                 ON w.execution_id = t.execution_id AND w.run = t.item_of \
                 AND w.execution_id = ANY ($1) AND w.item_progress IS NOT NULL \
             WHERE t.execution_id = ANY ($1) AND t.item_of IS NOT NULL \
                 AND (w.run IS NULL OR w.task <> t.task OR w.visit <> t.visit \
                     OR (w.finished_at IS NOT NULL AND t.finished_at IS NULL))",
        ),
    },
    Invariant {
        name: "items_run_once",
        rule: "each item of a task has at most one run, and its index is one of the task's",
        query: Executions(
            "SELECT t.execution_id, concat('item ', t.item_index, ' of run ', t.item_of, ' has ', \
                 count(*), ' runs, of ', w.item_progress ->> 'count', ' items') \
             FROM workflow_task AS t \
             JOIN workflow_task AS w \
                 ON w.execution_id = t.execution_id AND w.run = t.item_of \
                 AND w.execution_id = ANY ($1) \
             WHERE t.execution_id = ANY ($1) \
             GROUP BY t.execution_id, t.item_of, t.item_index, w.item_progress \
             HAVING count(*) > 1 \
                 OR t.item_index >= (w.item_progress ->> 'count')::bigint",
        ),
    },
    Invariant {
        name: "items_are_counted",
        rule: "the progress of a task counts its items: those in flight, at most as many as may be, those that failed, and those that were cancelled",
        query: Executions(
            "SELECT w.execution_id, concat('run ', w.run, ' has ', t.active, ' items in flight, ', \
                 t.failed, ' failed and ', t.cancelled, ' cancelled, and its progress is ', \
                 w.item_progress) \
             FROM workflow_task AS w \
             CROSS JOIN LATERAL ( \
                 SELECT count(*) FILTER (WHERE i.finished_at IS NULL) AS active, \
                     count(*) FILTER (WHERE i.status IN ('failed', 'timed_out')) AS failed, \
                     count(*) FILTER (WHERE i.status IN ('cancelled', 'omitted')) AS cancelled \
                 FROM workflow_task AS i \
                 WHERE i.execution_id = w.execution_id AND i.run > w.run AND i.item_of = w.run \
             ) AS t \
             WHERE w.execution_id = ANY ($1) AND w.item_progress IS NOT NULL \
                 AND (t.active <> (w.item_progress ->> 'active')::bigint \
                     OR t.active > (w.item_progress ->> 'concurrency')::bigint \
                     OR t.failed <> (w.item_progress ->> 'failed')::bigint \
                     OR t.cancelled <> coalesce((w.item_progress ->> 'cancelled')::bigint, 0))",
        ),
    },
    Invariant {
        name: "success_has_all_items",
        rule: "a task that has succeeded has a run of each of its items, or has kept one that succeeded, and no more of them failed than it tolerates",
        query: Executions(
            "SELECT w.execution_id, concat('run ', w.run, ' has succeeded, and its progress is ', \
                 w.item_progress) \
             FROM workflow_task AS w \
             WHERE w.execution_id = ANY ($1) AND w.item_progress IS NOT NULL \
                 AND w.status = 'succeeded' \
                 AND ((w.item_progress ->> 'failed')::bigint > (w.item_progress ->> 'tolerated')::bigint \
                     OR (w.item_progress ->> 'count')::bigint <> ( \
                         WITH RECURSIVE chain (run) AS ( \
                             SELECT w.run UNION ALL \
                             SELECT (p.item_progress ->> 'kept_of')::integer FROM chain AS c \
                             JOIN workflow_task AS p \
                                 ON p.execution_id = w.execution_id AND p.run = c.run \
                             WHERE p.item_progress ? 'kept_of' \
                         ) \
                         SELECT count(*) FROM chain AS c \
                         JOIN workflow_task AS i \
                             ON i.execution_id = w.execution_id AND i.run > c.run \
                             AND i.item_of = c.run \
                         WHERE i.item_of = w.run OR i.status = 'succeeded'))",
        ),
    },
];
