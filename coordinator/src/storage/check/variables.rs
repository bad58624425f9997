//! What must hold of variables: every write that anything refers to exists.

use super::{Invariant, Query::Executions};

/// The invariants of variables.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "writes_without_gap",
        rule: "the writes of an execution are numbered from 1 to last_write",
        query: Executions(
            "SELECT e.execution_id, concat(count(v.write_no), ' writes, ', min(v.write_no), \
                 ' to ', max(v.write_no), ', but last_write is ', e.last_write) \
             FROM workflow_execution AS e \
             LEFT JOIN workflow_variable AS v \
                 ON v.execution_id = e.execution_id AND v.execution_id = ANY ($1) \
             WHERE e.execution_id = ANY ($1) \
             GROUP BY e.execution_id, e.last_write \
             HAVING count(v.write_no) <> e.last_write \
                 OR coalesce(max(v.write_no), 0) <> e.last_write",
        ),
    },
    Invariant {
        name: "replaced_writes_exist",
        rule: "the write that a write replaced exists, is an earlier one and is of the same name",
        query: Executions(
            "SELECT v.execution_id, concat('write ', v.write_no, ' of ', v.name, ' replaced ', \
                 v.previous_write_no, ', ', coalesce('which is of ' || p.name, 'which does not exist')) \
             FROM workflow_variable AS v \
             LEFT JOIN workflow_variable AS p \
                 ON p.execution_id = v.execution_id AND p.write_no = v.previous_write_no \
                 AND p.execution_id = ANY ($1) \
             WHERE v.execution_id = ANY ($1) AND v.previous_write_no IS NOT NULL \
                 AND (p.write_no IS NULL OR p.name <> v.name OR p.write_no >= v.write_no)",
        ),
    },
    Invariant {
        name: "published_writes_exist",
        rule: "every write that the log tells of exists under that name",
        query: Executions(
            "SELECT l.execution_id, concat('entry ', l.seq, ' tells of write ', \
                 l.published ->> 1, ' of ', l.published ->> 0) \
             FROM ( \
                 SELECT execution_id, seq, jsonb_array_elements(CASE \
                     WHEN jsonb_typeof(detail -> 'published') = 'array' \
                     THEN detail -> 'published' ELSE '[]' END) AS published \
                 FROM workflow_transition \
                 WHERE execution_id = ANY ($1) AND detail IS NOT NULL \
             ) AS l \
             LEFT JOIN workflow_variable AS v \
                 ON v.execution_id = l.execution_id AND v.execution_id = ANY ($1) \
                 AND v.write_no::text = l.published ->> 1 AND v.name = l.published ->> 0 \
             WHERE v.write_no IS NULL",
        ),
    },
    Invariant {
        name: "seen_writes_exist",
        rule: "every write that a branch or the ended branches see exists under that name",
        query: Executions(
            "SELECT s.execution_id, concat(s.place, ' sees write ', s.write_no, ' of ', s.name) \
             FROM ( \
                 SELECT t.execution_id, concat('run ', t.run) AS place, seen.key AS name, \
                     seen.value AS write_no \
                 FROM workflow_task AS t CROSS JOIN LATERAL jsonb_each_text(CASE \
                     WHEN jsonb_typeof(t.branch -> 'vars') = 'object' \
                     THEN t.branch -> 'vars' ELSE '{}' END) AS seen \
                 WHERE t.execution_id = ANY ($1) \
                 UNION ALL \
                 SELECT e.execution_id, 'ends', seen.key, seen.value \
                 FROM workflow_execution AS e CROSS JOIN LATERAL jsonb_each_text(CASE \
                     WHEN jsonb_typeof(e.ends -> 'vars') = 'object' \
                     THEN e.ends -> 'vars' ELSE '{}' END) AS seen \
                 WHERE e.execution_id = ANY ($1) \
             ) AS s \
             LEFT JOIN workflow_variable AS v \
                 ON v.execution_id = s.execution_id AND v.execution_id = ANY ($1) \
                 AND v.write_no::text = s.write_no AND v.name = s.name \
             WHERE v.write_no IS NULL",
        ),
    },
    Invariant {
        name: "seen_runs_have_ended",
        rule: "every run that a branch or the ended branches see exists, is of that task and has ended",
        query: Executions(
            "SELECT s.execution_id, concat(s.place, ' sees run ', s.run, ' of ', s.task) \
             FROM ( \
                 SELECT t.execution_id, concat('run ', t.run) AS place, seen.key AS task, \
                     seen.value AS run \
                 FROM workflow_task AS t CROSS JOIN LATERAL jsonb_each_text(CASE \
                     WHEN jsonb_typeof(t.branch -> 'tasks') = 'object' \
                     THEN t.branch -> 'tasks' ELSE '{}' END) AS seen \
                 WHERE t.execution_id = ANY ($1) \
                 UNION ALL \
                 SELECT e.execution_id, concat('ends.', part), seen.key, seen.value \
                 FROM workflow_execution AS e \
                 CROSS JOIN unnest('{tasks,last_ended}'::text[]) AS part \
                 CROSS JOIN LATERAL jsonb_each_text(CASE \
                     WHEN jsonb_typeof(e.ends -> part) = 'object' \
                     THEN e.ends -> part ELSE '{}' END) AS seen \
                 WHERE e.execution_id = ANY ($1) \
             ) AS s \
             LEFT JOIN workflow_task AS t \
                 ON t.execution_id = s.execution_id AND t.execution_id = ANY ($1) \
                 AND t.run::text = s.run AND t.task = s.task AND t.finished_at IS NOT NULL \
             WHERE t.run IS NULL",
        ),
    },
];
