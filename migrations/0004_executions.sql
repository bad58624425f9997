-- The state of executions: starts, executions, runs of tasks, variables. These rows are the state
-- and no copy of it; an owner loads them and carries on.
--
-- Updated columns are never indexed, and the pages of updated tables are filled by half, so that
-- updates stay on their page (HOT). No foreign keys: each costs a lookup per row, on every commit.

SET LOCAL lock_timeout = '5s';

CREATE TABLE workflow_start (
    execution_id uuid PRIMARY KEY,
    idempotency_key text,
    workflow text NOT NULL,
    partition integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT workflow_start_idempotency_key UNIQUE (idempotency_key)
);

COMMENT ON TABLE workflow_start IS
    'Names of all starts that were accepted, unique over all partitions, so that a start that is sent twice makes one execution. Written by commit_turn_v1 with the execution.';
COMMENT ON COLUMN workflow_start.execution_id IS 'The execution.';
COMMENT ON COLUMN workflow_start.idempotency_key IS 'Key that the user gave, if any.';
COMMENT ON COLUMN workflow_start.workflow IS 'Reference of the workflow; the same name for another workflow is rejected.';
COMMENT ON COLUMN workflow_start.partition IS 'Partition of the execution (coordinator_partition.id).';
COMMENT ON COLUMN workflow_start.created_at IS 'When it was written, by the clock of the database.';

CREATE TABLE workflow_execution (
    execution_id uuid PRIMARY KEY,
    definition_hash bytea NOT NULL,
    workflow text NOT NULL,
    version text NOT NULL,
    partition integer NOT NULL,
    idempotency_key text,
    tags jsonb NOT NULL,
    parameters jsonb NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL,
    status execution_status NOT NULL,
    tasks_total integer NOT NULL,
    tasks_active integer NOT NULL,
    tasks_succeeded integer NOT NULL,
    tasks_failed integer NOT NULL,
    tasks_timed_out integer NOT NULL,
    tasks_cancelled integer NOT NULL,
    tasks_skipped integer NOT NULL,
    tasks_omitted integer NOT NULL,
    attempts_total integer NOT NULL,
    visits integer[] NOT NULL,
    last_run integer NOT NULL,
    last_write bigint NOT NULL,
    last_seq bigint NOT NULL,
    live_runs integer[] NOT NULL,
    ends jsonb NOT NULL,
    errors jsonb NOT NULL,
    output jsonb,
    reply_to jsonb NOT NULL,
    finished_at timestamptz,
    CONSTRAINT workflow_execution_counts_add_up CHECK (
        tasks_total = tasks_active + tasks_succeeded + tasks_failed + tasks_timed_out
            + tasks_cancelled + tasks_skipped + tasks_omitted
        AND tasks_active >= 0 AND tasks_succeeded >= 0 AND tasks_failed >= 0
        AND tasks_timed_out >= 0 AND tasks_cancelled >= 0 AND tasks_skipped >= 0
        AND tasks_omitted >= 0 AND attempts_total >= 0
    ),
    CONSTRAINT workflow_execution_active_are_live CHECK (tasks_active = cardinality(live_runs)),
    CONSTRAINT workflow_execution_finished_iff_final CHECK (
        (finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled', 'timed_out'))
    ),
    CONSTRAINT workflow_execution_numbers CHECK (last_run >= 0 AND last_write >= 0 AND last_seq >= 1)
) WITH (fillfactor = 50);
-- Lists go by time, newest first. Neither column ever changes, so updates stay HOT.
CREATE INDEX workflow_execution_by_time ON workflow_execution (created_at, execution_id);

COMMENT ON TABLE workflow_execution IS
    'Executions of workflows: the state that belongs to the execution as a whole. Written by the owner of its partition, through commit_turn_v1. To look at, see the view workflow_execution_summary.';
COMMENT ON COLUMN workflow_execution.execution_id IS 'The execution; a UUID of version 7 unless the user chose one.';
COMMENT ON COLUMN workflow_execution.definition_hash IS 'The definition that it started with and keeps (workflow_definition.hash).';
COMMENT ON COLUMN workflow_execution.workflow IS 'Reference of the workflow, pack.name.';
COMMENT ON COLUMN workflow_execution.version IS 'Version of the workflow.';
COMMENT ON COLUMN workflow_execution.partition IS 'Its partition for its whole life (coordinator_partition.id).';
COMMENT ON COLUMN workflow_execution.idempotency_key IS 'Key that the user gave at the start, if any.';
COMMENT ON COLUMN workflow_execution.tags IS 'Labels that the user gave at the start, an object of texts.';
COMMENT ON COLUMN workflow_execution.parameters IS 'Parameters with defaults filled in, an object.';
COMMENT ON COLUMN workflow_execution.traceparent IS 'Trace context of the start message (W3C), if it had one.';
COMMENT ON COLUMN workflow_execution.created_at IS 'When the execution was created.';
COMMENT ON COLUMN workflow_execution.status IS 'Where it stands.';
COMMENT ON COLUMN workflow_execution.tasks_total IS 'Runs of tasks created so far.';
COMMENT ON COLUMN workflow_execution.tasks_active IS 'Runs that have not ended.';
COMMENT ON COLUMN workflow_execution.tasks_succeeded IS 'Runs that have succeeded.';
COMMENT ON COLUMN workflow_execution.tasks_failed IS 'Runs that have failed, after all attempts.';
COMMENT ON COLUMN workflow_execution.tasks_timed_out IS 'Runs that have timed out, after all attempts.';
COMMENT ON COLUMN workflow_execution.tasks_cancelled IS 'Runs that were cancelled.';
COMMENT ON COLUMN workflow_execution.tasks_skipped IS 'Runs whose guard was false.';
COMMENT ON COLUMN workflow_execution.tasks_omitted IS 'Runs that were never due before the end.';
COMMENT ON COLUMN workflow_execution.attempts_total IS 'Attempts dispatched so far.';
COMMENT ON COLUMN workflow_execution.visits IS 'How often each task has been visited, by its position in the definition.';
COMMENT ON COLUMN workflow_execution.last_run IS 'Number of the newest run (workflow_task.run); 0 before the first.';
COMMENT ON COLUMN workflow_execution.last_write IS 'Number of the newest write of a variable (workflow_variable.write_no); 0 before the first.';
COMMENT ON COLUMN workflow_execution.last_seq IS 'Number of the newest log entry (workflow_transition.seq).';
COMMENT ON COLUMN workflow_execution.live_runs IS 'Runs that have not ended, ascending. Stands here so that no index on the status of tasks is needed.';
COMMENT ON COLUMN workflow_execution.ends IS 'What the ended branches left, merged: vars (name to write_no), tasks and last_ended (name to run); empty parts are left out.';
COMMENT ON COLUMN workflow_execution.errors IS 'Failures that nothing handled, a list of objects.';
COMMENT ON COLUMN workflow_execution.output IS 'What the definition''s output gave at the end; NULL before.';
COMMENT ON COLUMN workflow_execution.reply_to IS 'Who is told of the end: a list of reply_to and correlation_id.';
COMMENT ON COLUMN workflow_execution.finished_at IS 'When it ended; NULL while it lives.';

CREATE TABLE workflow_task (
    execution_id uuid NOT NULL,
    run integer NOT NULL,
    task_id uuid NOT NULL,
    task text NOT NULL,
    visit integer NOT NULL,
    created_at timestamptz NOT NULL,
    status task_status NOT NULL,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    starts integer NOT NULL,
    held boolean NOT NULL,
    action text,
    pool text,
    timeout_s double precision,
    input jsonb,
    branch jsonb NOT NULL,
    caused_by integer[] NOT NULL,
    arrived integer[] NOT NULL,
    worker text,
    result jsonb,
    error jsonb,
    dispatched_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (execution_id, run),
    CONSTRAINT workflow_task_numbers CHECK (
        run >= 1 AND visit >= 1 AND attempt >= 0 AND max_attempts >= 1 AND starts >= 0
    ),
    CONSTRAINT workflow_task_finished_iff_final CHECK (
        (finished_at IS NOT NULL)
            = (status IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'omitted'))
    ),
    CONSTRAINT workflow_task_dispatched_has_attempt CHECK (
        status NOT IN ('dispatched', 'running') OR attempt >= 1
    )
) WITH (fillfactor = 50);

COMMENT ON TABLE workflow_task IS
    'Runs of tasks: one row for each visit of a task, with all its attempts. Written by the owner of the execution''s partition, through commit_turn_v1. To look at, see the view workflow_task_detail.';
COMMENT ON COLUMN workflow_task.execution_id IS 'The execution.';
COMMENT ON COLUMN workflow_task.run IS 'Number of the run within the execution, from 1 in the order of creation.';
COMMENT ON COLUMN workflow_task.task_id IS 'Id of the run as messages carry it; derived from the execution and the number.';
COMMENT ON COLUMN workflow_task.task IS 'Name of the task.';
COMMENT ON COLUMN workflow_task.visit IS 'Number of this visit of the task, from 1.';
COMMENT ON COLUMN workflow_task.created_at IS 'When the run was created.';
COMMENT ON COLUMN workflow_task.status IS 'Where it stands.';
COMMENT ON COLUMN workflow_task.attempt IS 'The current attempt, from 1; 0 before the first dispatch.';
COMMENT ON COLUMN workflow_task.max_attempts IS 'Attempts that are allowed in all.';
COMMENT ON COLUMN workflow_task.starts IS 'How often a worker has said that it starts the current attempt.';
COMMENT ON COLUMN workflow_task.held IS 'Whether it was held back because the execution had failed before.';
COMMENT ON COLUMN workflow_task.action IS 'Name of the action; NULL before the dispatch and for tasks without one.';
COMMENT ON COLUMN workflow_task.pool IS 'The worker pool.';
COMMENT ON COLUMN workflow_task.timeout_s IS 'Seconds that one attempt may run.';
COMMENT ON COLUMN workflow_task.input IS 'Rendered input; NULL before the dispatch.';
COMMENT ON COLUMN workflow_task.branch IS 'What the run sees and hands on: vars (name to write_no), tasks (name to run), passed (join to count); empty parts are left out.';
COMMENT ON COLUMN workflow_task.caused_by IS 'Runs that led here.';
COMMENT ON COLUMN workflow_task.arrived IS 'Predecessors that have arrived at this join, by their position in the definition.';
COMMENT ON COLUMN workflow_task.worker IS 'The worker that was last heard of.';
COMMENT ON COLUMN workflow_task.result IS 'Result of the last attempt that ended.';
COMMENT ON COLUMN workflow_task.error IS 'Error of the last attempt that ended, an object with kind and message; NULL after success.';
COMMENT ON COLUMN workflow_task.dispatched_at IS 'When the current attempt was dispatched.';
COMMENT ON COLUMN workflow_task.started_at IS 'When a worker started the current attempt, by the word of the worker.';
COMMENT ON COLUMN workflow_task.finished_at IS 'When the run ended; NULL while it lives.';

CREATE TABLE workflow_variable (
    execution_id uuid NOT NULL,
    write_no bigint NOT NULL,
    name text NOT NULL,
    value jsonb NOT NULL,
    previous_write_no bigint,
    PRIMARY KEY (execution_id, write_no),
    CONSTRAINT workflow_variable_previous_is_older CHECK (
        write_no >= 1 AND previous_write_no BETWEEN 1 AND write_no - 1
    )
);

COMMENT ON TABLE workflow_variable IS
    'Variables, one row for each time that one was published. Rows never change; who sees which write stands in workflow_task.branch and workflow_execution.ends. Written by commit_turn_v1.';
COMMENT ON COLUMN workflow_variable.execution_id IS 'The execution.';
COMMENT ON COLUMN workflow_variable.write_no IS 'Number of the write within the execution, from 1.';
COMMENT ON COLUMN workflow_variable.name IS 'Name of the variable.';
COMMENT ON COLUMN workflow_variable.value IS 'What was published.';
COMMENT ON COLUMN workflow_variable.previous_write_no IS 'The write of the same name that this one replaced in its branch; NULL for the first.';
