//! What must hold of executions and their children.

use super::{Invariant, Query::Executions};

/// The invariants of families.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "children_have_a_parent",
        rule: "a child belongs to a run of a sub-workflow of an execution in the same partition",
        query: Executions(
            "SELECT e.execution_id, concat('run ', e.parent_run, ' of ', e.parent_execution_id, \
                 CASE WHEN t.run IS NULL THEN ' does not exist' \
                     WHEN t.pool IS NOT NULL OR t.action IS NULL THEN ' is no sub-workflow' \
                     ELSE concat(' is in partition ', p.partition, ', and its child in ', e.partition) END) \
             FROM workflow_execution AS e \
             LEFT JOIN workflow_execution AS p ON p.execution_id = e.parent_execution_id \
             LEFT JOIN workflow_task AS t \
                 ON t.execution_id = e.parent_execution_id AND t.run = e.parent_run \
             WHERE e.execution_id = ANY ($1) AND e.parent_execution_id IS NOT NULL \
                 AND (t.run IS NULL OR t.pool IS NOT NULL OR t.action IS NULL \
                     OR p.partition <> e.partition)",
        ),
    },
    Invariant {
        name: "runs_wait_for_live_children",
        rule: "a run of a sub-workflow that runs has a child that has not ended",
        query: Executions(
            "SELECT t.execution_id, concat('run ', t.run, ' waits for a child of ', t.action, ', and none is alive') \
             FROM workflow_task AS t \
             WHERE t.execution_id = ANY ($1) AND t.status = 'running' AND t.pool IS NULL \
                 AND t.item_progress IS NULL \
                 AND NOT EXISTS ( \
                     SELECT FROM workflow_execution AS c \
                     WHERE c.parent_execution_id = t.execution_id AND c.parent_run = t.run \
                         AND c.finished_at IS NULL \
                 )",
        ),
    },
];
