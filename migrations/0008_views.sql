-- What people and scripts look at. The names and types of these columns are a promise.

SET LOCAL lock_timeout = '5s';

CREATE VIEW workflow_execution_summary AS
SELECT
    e.execution_id,
    e.workflow,
    e.version,
    e.status,
    NULL::uuid AS parent_execution_id,
    e.idempotency_key,
    e.tags,
    e.partition,
    e.parameters,
    (
        SELECT coalesce(jsonb_object_agg(v.name, v.value), '{}')
        FROM jsonb_each_text(e.ends -> 'vars') AS seen (name, write_no)
        JOIN workflow_variable AS v
            ON v.execution_id = e.execution_id AND v.write_no = seen.write_no::bigint
    ) AS variables,
    e.output,
    e.errors,
    e.created_at,
    e.created_at AS started_at,
    e.finished_at,
    extract(EPOCH FROM coalesce(e.finished_at, now()) - e.created_at)::double precision AS duration_s,
    e.tasks_total,
    e.tasks_active,
    e.tasks_succeeded,
    e.tasks_failed,
    e.tasks_timed_out,
    e.tasks_cancelled,
    e.tasks_skipped,
    e.tasks_omitted,
    e.attempts_total,
    e.last_seq
FROM workflow_execution AS e;

COMMENT ON VIEW workflow_execution_summary IS
    'Executions, one row each, with counts that are kept and not counted: cheap to list, best by created_at.';
COMMENT ON COLUMN workflow_execution_summary.execution_id IS 'The execution.';
COMMENT ON COLUMN workflow_execution_summary.workflow IS 'Reference of the workflow, pack.name.';
COMMENT ON COLUMN workflow_execution_summary.version IS 'Version of the workflow.';
COMMENT ON COLUMN workflow_execution_summary.status IS 'Where it stands.';
COMMENT ON COLUMN workflow_execution_summary.parent_execution_id IS 'The execution that started it as a child; NULL if nobody did.';
COMMENT ON COLUMN workflow_execution_summary.idempotency_key IS 'Key that the user gave at the start, if any.';
COMMENT ON COLUMN workflow_execution_summary.tags IS 'Labels that the user gave at the start, an object of texts.';
COMMENT ON COLUMN workflow_execution_summary.partition IS 'Its partition (coordinator_partition.id).';
COMMENT ON COLUMN workflow_execution_summary.parameters IS 'Parameters with defaults filled in, an object.';
COMMENT ON COLUMN workflow_execution_summary.variables IS 'Variables as the branches that have ended left them, an object; complete once the execution has ended.';
COMMENT ON COLUMN workflow_execution_summary.output IS 'What the definition''s output gave at the end; NULL before.';
COMMENT ON COLUMN workflow_execution_summary.errors IS 'Failures that nothing handled, a list of objects.';
COMMENT ON COLUMN workflow_execution_summary.created_at IS 'When the execution was created.';
COMMENT ON COLUMN workflow_execution_summary.started_at IS 'When it began to run, which is when it was created.';
COMMENT ON COLUMN workflow_execution_summary.finished_at IS 'When it ended; NULL while it lives.';
COMMENT ON COLUMN workflow_execution_summary.duration_s IS 'Seconds from its creation to its end, or until now while it lives.';
COMMENT ON COLUMN workflow_execution_summary.tasks_total IS 'Runs of tasks created so far.';
COMMENT ON COLUMN workflow_execution_summary.tasks_active IS 'Runs that have not ended.';
COMMENT ON COLUMN workflow_execution_summary.tasks_succeeded IS 'Runs that have succeeded.';
COMMENT ON COLUMN workflow_execution_summary.tasks_failed IS 'Runs that have failed, after all attempts.';
COMMENT ON COLUMN workflow_execution_summary.tasks_timed_out IS 'Runs that have timed out, after all attempts.';
COMMENT ON COLUMN workflow_execution_summary.tasks_cancelled IS 'Runs that were cancelled.';
COMMENT ON COLUMN workflow_execution_summary.tasks_skipped IS 'Runs whose guard was false.';
COMMENT ON COLUMN workflow_execution_summary.tasks_omitted IS 'Runs that were never due before the end.';
COMMENT ON COLUMN workflow_execution_summary.attempts_total IS 'Attempts dispatched so far.';
COMMENT ON COLUMN workflow_execution_summary.last_seq IS 'Number of the newest log entry (workflow_transition.seq).';

CREATE VIEW workflow_task_detail AS
SELECT
    t.execution_id,
    t.task_id,
    t.task,
    t.visit,
    NULL::integer AS item_index,
    NULL::integer AS batch_size,
    t.status,
    t.attempt,
    t.max_attempts,
    t.action,
    t.pool,
    t.worker,
    t.input,
    t.result,
    t.error ->> 'kind' AS error_kind,
    t.error ->> 'message' AS error_message,
    t.error,
    ARRAY(
        SELECT c.task_id
        FROM workflow_task AS c
        WHERE c.execution_id = t.execution_id AND c.run = ANY (t.caused_by)
        ORDER BY c.run
    ) AS caused_by,
    t.created_at,
    t.dispatched_at,
    t.started_at,
    t.finished_at
FROM workflow_task AS t;

COMMENT ON VIEW workflow_task_detail IS
    'Runs of tasks: a row for each visit of a task and for each item of one; the row of an item task as a whole has no item_index.';
COMMENT ON COLUMN workflow_task_detail.execution_id IS 'The execution.';
COMMENT ON COLUMN workflow_task_detail.task_id IS 'Id of the run as messages carry it.';
COMMENT ON COLUMN workflow_task_detail.task IS 'Name of the task.';
COMMENT ON COLUMN workflow_task_detail.visit IS 'Number of this visit of the task, from 1.';
COMMENT ON COLUMN workflow_task_detail.item_index IS 'Index of the item, from 0; NULL for a task as a whole.';
COMMENT ON COLUMN workflow_task_detail.batch_size IS 'How many items the row stands for; NULL where it is no batch.';
COMMENT ON COLUMN workflow_task_detail.status IS 'Where it stands.';
COMMENT ON COLUMN workflow_task_detail.attempt IS 'The current attempt, from 1; 0 before the first dispatch.';
COMMENT ON COLUMN workflow_task_detail.max_attempts IS 'Attempts that are allowed in all.';
COMMENT ON COLUMN workflow_task_detail.action IS 'Name of the action; NULL before the dispatch and for tasks without one.';
COMMENT ON COLUMN workflow_task_detail.pool IS 'The worker pool.';
COMMENT ON COLUMN workflow_task_detail.worker IS 'The worker that was last heard of.';
COMMENT ON COLUMN workflow_task_detail.input IS 'Rendered input; NULL before the dispatch.';
COMMENT ON COLUMN workflow_task_detail.result IS 'Result of the last attempt that ended.';
COMMENT ON COLUMN workflow_task_detail.error_kind IS 'Kind of that attempt''s error; NULL after success.';
COMMENT ON COLUMN workflow_task_detail.error_message IS 'Message of that error.';
COMMENT ON COLUMN workflow_task_detail.error IS 'That error as a whole, an object.';
COMMENT ON COLUMN workflow_task_detail.caused_by IS 'Ids of the runs that led here (task_id), in the order of their creation.';
COMMENT ON COLUMN workflow_task_detail.created_at IS 'When the run was created.';
COMMENT ON COLUMN workflow_task_detail.dispatched_at IS 'When the current attempt was dispatched.';
COMMENT ON COLUMN workflow_task_detail.started_at IS 'When a worker started the current attempt, by the word of the worker.';
COMMENT ON COLUMN workflow_task_detail.finished_at IS 'When the run ended; NULL while it lives.';
