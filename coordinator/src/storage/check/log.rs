//! What must hold of the log: complete, in order, and at one with the rows that it led to.

use super::{Invariant, Query::Executions};

/// The invariants of the log.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "log_without_gap",
        rule: "the entries of a log are numbered from 1 to last_seq",
        query: Executions(
            "SELECT e.execution_id, \
                 concat(count(l.seq), ' entries, ', min(l.seq), ' to ', max(l.seq), \
                     ', but last_seq is ', e.last_seq) \
             FROM workflow_execution AS e \
             LEFT JOIN workflow_transition AS l \
                 ON l.execution_id = e.execution_id AND l.execution_id = ANY ($1) \
             WHERE e.execution_id = ANY ($1) \
             GROUP BY e.execution_id, e.last_seq \
             HAVING count(l.seq) <> e.last_seq OR min(l.seq) <> 1 OR max(l.seq) <> e.last_seq",
        ),
    },
    Invariant {
        name: "log_entries_are_complete",
        rule: "an entry about a run names the run and, where there is one (a task starts its items without), the attempt; an entry about the execution names neither",
        query: Executions(
            "SELECT l.execution_id, concat('entry ', l.seq, ', ', l.kind, ', names the task ', \
                 coalesce(l.task_id::text, 'none'), ' and the attempt ', \
                 coalesce(l.attempt::text, 'none')) \
             FROM workflow_transition AS l \
             WHERE l.execution_id = ANY ($1) AND CASE \
                 WHEN l.kind IN ('execution_started', 'execution_status_changed') \
                     THEN l.task_id IS NOT NULL OR l.attempt IS NOT NULL OR l.to_status IS NULL \
                 WHEN l.kind = 'task_started' AND coalesce(l.detail ? 'items', false) \
                     THEN l.task_id IS NULL OR l.attempt IS NOT NULL OR l.to_status IS NULL \
                 WHEN l.kind IN ('task_dispatched', 'task_started', 'task_retry_scheduled') \
                     THEN l.task_id IS NULL OR coalesce(l.attempt, 0) < 1 OR l.to_status IS NULL \
                 WHEN l.kind IN ('task_ended', 'join_arrived') \
                     THEN l.task_id IS NULL OR l.to_status IS NULL \
                 ELSE false END",
        ),
    },
    Invariant {
        name: "log_names_runs",
        rule: "every run that the log names exists",
        // The last 32 bits of an id of a run are its number.
        query: Executions(
            "SELECT l.execution_id, concat('entry ', l.seq, ' names ', l.task_id) \
             FROM workflow_transition AS l \
             LEFT JOIN workflow_task AS t \
                 ON t.execution_id = l.execution_id AND t.execution_id = ANY ($1) \
                 AND t.run = ('x' || right(l.task_id::text, 8))::bit(32)::integer \
                 AND t.task_id = l.task_id \
             WHERE l.execution_id = ANY ($1) AND l.task_id IS NOT NULL AND t.run IS NULL",
        ),
    },
    Invariant {
        name: "log_times_in_order",
        rule: "the times of a log ascend, but for a minute that a clock may be set back",
        query: Executions(
            "SELECT l.execution_id, \
                 concat('entry ', l.seq, ' of ', l.at, ' follows one of ', l.before) \
             FROM ( \
                 SELECT execution_id, seq, at, \
                     lag(at) OVER (PARTITION BY execution_id ORDER BY seq) AS before \
                 FROM workflow_transition WHERE execution_id = ANY ($1) \
             ) AS l \
             WHERE l.at < l.before - interval '1 minute'",
        ),
    },
    Invariant {
        name: "execution_starts_and_ends_once",
        rule: "a log begins with the start of the execution, and has an end for each rerun, and one more if the execution has ended",
        query: Executions(
            "SELECT e.execution_id, concat(l.starts, ' starts, the first in entry ', l.first, ', ', \
                 l.ends, ' ends, and the execution is ', e.status) \
             FROM workflow_execution AS e \
             JOIN ( \
                 SELECT execution_id, \
                     count(*) FILTER (WHERE kind = 'execution_started') AS starts, \
                     min(seq) FILTER (WHERE kind = 'execution_started') AS first, \
                     count(*) FILTER (WHERE kind = 'execution_status_changed' AND to_status IN \
                         ('succeeded', 'failed', 'cancelled', 'timed_out')) AS ends, \
                     count(*) FILTER (WHERE kind = 'control_applied' AND task_id IS NULL \
                         AND detail ->> 'command' = 'rerun') AS reruns \
                 FROM workflow_transition WHERE execution_id = ANY ($1) GROUP BY execution_id \
             ) AS l ON l.execution_id = e.execution_id \
             WHERE e.execution_id = ANY ($1) AND (l.starts <> 1 OR l.first <> 1 \
                 OR l.ends <> l.reruns + CASE WHEN e.finished_at IS NULL THEN 0 ELSE 1 END)",
        ),
    },
    Invariant {
        name: "nothing_follows_the_end",
        rule: "nothing follows the end of an execution but a rerun, and nothing else leaves a final status",
        query: Executions(
            "SELECT l.execution_id, concat('it ends with entry ', l.seq, ', and ', l.next, ' of ', \
                 coalesce(l.command, 'no command'), ' follows') \
             FROM ( \
                 SELECT execution_id, seq, kind, to_status, lead(kind) OVER log AS next, \
                     lead(detail ->> 'command') OVER log AS command \
                 FROM workflow_transition WHERE execution_id = ANY ($1) \
                 WINDOW log AS (PARTITION BY execution_id ORDER BY seq) \
             ) AS l \
             WHERE l.kind = 'execution_status_changed' AND l.next IS NOT NULL \
                 AND l.to_status IN ('succeeded', 'failed', 'cancelled', 'timed_out') \
                 AND (l.next <> 'control_applied' OR l.command IS DISTINCT FROM 'rerun')",
        ),
    },
    Invariant {
        name: "statuses_of_an_execution_chain",
        rule: "an execution leaves the status that it had before",
        query: Executions(
            "SELECT l.execution_id, concat('entry ', l.seq, ' leaves ', \
                 coalesce(l.from_status, 'none'), ' after ', coalesce(l.before, 'none')) \
             FROM ( \
                 SELECT execution_id, seq, from_status, \
                     lag(to_status) OVER (PARTITION BY execution_id ORDER BY seq) AS before \
                 FROM workflow_transition \
                 WHERE execution_id = ANY ($1) \
                     AND kind IN ('execution_started', 'execution_status_changed') \
             ) AS l \
             WHERE l.from_status IS DISTINCT FROM l.before",
        ),
    },
    Invariant {
        name: "status_of_an_execution_is_logged",
        rule: "an execution has the status that its log has last",
        query: Executions(
            "SELECT e.execution_id, \
                 concat('it is ', e.status, ', and by the log ', coalesce(l.to_status, 'nothing')) \
             FROM workflow_execution AS e \
             LEFT JOIN ( \
                 SELECT DISTINCT ON (execution_id) execution_id, to_status \
                 FROM workflow_transition \
                 WHERE execution_id = ANY ($1) \
                     AND kind IN ('execution_started', 'execution_status_changed') \
                 ORDER BY execution_id, seq DESC \
             ) AS l ON l.execution_id = e.execution_id \
             WHERE e.execution_id = ANY ($1) AND l.to_status IS DISTINCT FROM e.status::text",
        ),
    },
    Invariant {
        name: "statuses_of_a_run_chain",
        rule: "a run leaves the status that it had before; waiting and delayed need not be in the log",
        query: Executions(
            "SELECT l.execution_id, concat('entry ', l.seq, ' lets ', l.task_id, ' leave ', \
                 coalesce(l.from_status, 'none'), ' after ', coalesce(l.before, 'none')) \
             FROM ( \
                 SELECT execution_id, seq, task_id, from_status, lag(to_status) OVER \
                     (PARTITION BY execution_id, task_id ORDER BY seq) AS before \
                 FROM workflow_transition \
                 WHERE execution_id = ANY ($1) AND task_id IS NOT NULL AND to_status IS NOT NULL \
             ) AS l \
             WHERE CASE \
                 WHEN l.from_status IS NULL THEN l.before NOT IN ('waiting', 'delayed') \
                 WHEN l.from_status IN ('waiting', 'delayed') \
                     THEN l.before NOT IN ('waiting', 'delayed', 'retrying') \
                 ELSE l.from_status IS DISTINCT FROM l.before END",
        ),
    },
    Invariant {
        name: "status_of_a_run_is_logged",
        rule: "a run has the status that its log has last; waiting and delayed need not be in the log",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' is ', t.status, ', and by the log ', \
                 coalesce(l.to_status, 'nothing')) \
             FROM workflow_task AS t \
             LEFT JOIN ( \
                 SELECT DISTINCT ON (execution_id, task_id) execution_id, task_id, to_status \
                 FROM workflow_transition \
                 WHERE execution_id = ANY ($1) AND task_id IS NOT NULL AND to_status IS NOT NULL \
                 ORDER BY execution_id, task_id, seq DESC \
             ) AS l ON l.execution_id = t.execution_id AND l.task_id = t.task_id \
             WHERE t.execution_id = ANY ($1) AND CASE \
                 WHEN t.status IN ('waiting', 'delayed') \
                     THEN l.to_status NOT IN ('waiting', 'delayed', 'retrying') \
                 ELSE l.to_status IS DISTINCT FROM t.status::text END",
        ),
    },
];
