//! What must hold of the runs of tasks: numbers, ids, causes, and what a job is made of.

use super::{Invariant, Query::Executions};

/// The invariants of runs.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "runs_without_gap",
        rule: "the runs of an execution are numbered from 1 to last_run",
        query: Executions(
            "SELECT e.execution_id, concat(count(t.run), ' runs, ', min(t.run), ' to ', \
                 max(t.run), ', but last_run is ', e.last_run) \
             FROM workflow_execution AS e \
             LEFT JOIN workflow_task AS t \
                 ON t.execution_id = e.execution_id AND t.execution_id = ANY ($1) \
             WHERE e.execution_id = ANY ($1) \
             GROUP BY e.execution_id, e.last_run \
             HAVING count(t.run) <> e.last_run OR coalesce(max(t.run), 0) <> e.last_run",
        ),
    },
    Invariant {
        name: "task_ids_are_those_of_the_runs",
        rule: "the id of a run is made of the creation of its execution and its number, with the same bits between for all runs of the execution",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' has the id ', t.task_id) \
             FROM ( \
                 SELECT execution_id, run, task_id, left(task_id::text, 28) AS stem, \
                     min(left(task_id::text, 28)) OVER (PARTITION BY execution_id) AS first_stem \
                 FROM workflow_task WHERE execution_id = ANY ($1) \
             ) AS t \
             JOIN workflow_execution AS e \
                 ON e.execution_id = t.execution_id AND e.execution_id = ANY ($1) \
             WHERE t.stem <> t.first_stem \
                 OR ('x' || right(t.task_id::text, 8))::bit(32)::integer <> t.run \
                 OR left(replace(t.task_id::text, '-', ''), 12) <> lpad(to_hex( \
                     floor(extract(EPOCH FROM e.created_at) * 1000)::bigint), 12, '0')",
        ),
    },
    Invariant {
        name: "visits_are_counted",
        rule: "visits counts the runs of each task, without those of items",
        // Which number is of which task, the definition says: here the numbers are compared.
        query: Executions(
            "SELECT e.execution_id, concat('visits is ', e.visits, ', and its tasks have ', \
                 coalesce(t.counts, '{}'), ' runs') \
             FROM workflow_execution AS e \
             LEFT JOIN ( \
                 SELECT c.execution_id, array_agg(c.count ORDER BY c.count) AS counts \
                 FROM ( \
                     SELECT execution_id, count(*)::integer AS count FROM workflow_task \
                     WHERE execution_id = ANY ($1) AND item_of IS NULL \
                     GROUP BY execution_id, task \
                 ) AS c \
                 GROUP BY c.execution_id \
             ) AS t ON t.execution_id = e.execution_id \
             WHERE e.execution_id = ANY ($1) AND coalesce(t.counts, '{}') \
                 <> ARRAY(SELECT v FROM unnest(e.visits) AS v WHERE v > 0 ORDER BY v)",
        ),
    },
    Invariant {
        name: "visits_without_gap",
        rule: "the visits of a task are numbered from 1, in the order of its runs",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' of ', t.task, ' is visit ', t.visit, \
                 ' in place of ', t.place) \
             FROM ( \
                 SELECT execution_id, run, task, visit, row_number() OVER \
                     (PARTITION BY execution_id, task ORDER BY run) AS place \
                 FROM workflow_task WHERE execution_id = ANY ($1) AND item_of IS NULL \
             ) AS t \
             WHERE t.visit <> t.place",
        ),
    },
    Invariant {
        name: "causes_exist",
        rule: "the runs that led to a run exist, have ended and, unless it is a join or a task with needs, are earlier ones; an item is led to by its task, which has not ended",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' was caused by run ', t.cause, ', ', \
                 coalesce(c.status::text, 'which does not exist')) \
             FROM ( \
                 SELECT execution_id, run, item_of, \
                     cardinality(arrived) > 0 OR branch ? 'needed' AS is_join, \
                     unnest(caused_by) AS cause \
                 FROM workflow_task WHERE execution_id = ANY ($1) \
             ) AS t \
             LEFT JOIN workflow_task AS c \
                 ON c.execution_id = t.execution_id AND c.run = t.cause \
                 AND c.execution_id = ANY ($1) \
             WHERE c.run IS NULL OR c.run = t.run \
                 OR (c.finished_at IS NULL AND t.item_of IS DISTINCT FROM c.run) \
                 OR (c.run > t.run AND NOT t.is_join)",
        ),
    },
    Invariant {
        name: "dispatched_runs_can_be_published",
        rule: "the row of a run that is with a worker, or waits for a child, has all that its job or its child is made of",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' is ', t.status, ' without ', \
                 concat_ws(', ', CASE WHEN t.action IS NULL THEN 'action' END, \
                     CASE WHEN t.input IS NULL THEN 'input' END, \
                     CASE WHEN t.dispatched_at IS NULL THEN 'dispatched_at' END)) \
             FROM workflow_task AS t \
             WHERE t.execution_id = ANY ($1) AND t.status IN ('dispatched', 'running') \
                 AND t.item_progress IS NULL \
                 AND (t.action IS NULL OR t.input IS NULL \
                     OR t.dispatched_at IS NULL)",
        ),
    },
    Invariant {
        name: "run_times_in_order",
        rule: "a run is created with or after its execution, then dispatched, then ended, but for a minute that a clock may be set back",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' was created at ', t.created_at, \
                 ', dispatched at ', t.dispatched_at, ', ended at ', t.finished_at) \
             FROM workflow_task AS t \
             JOIN workflow_execution AS e \
                 ON e.execution_id = t.execution_id AND e.execution_id = ANY ($1) \
             WHERE t.execution_id = ANY ($1) AND ( \
                 t.created_at < e.created_at - interval '1 minute' \
                 OR t.dispatched_at < t.created_at - interval '1 minute' \
                 OR t.finished_at < t.created_at - interval '1 minute' \
                 OR t.finished_at < t.dispatched_at - interval '1 minute' \
                 OR t.finished_at > e.finished_at + interval '1 minute')",
        ),
    },
];
