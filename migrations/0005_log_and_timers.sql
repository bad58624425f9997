-- What goes with the state: the log, the timers, the outbox, and the lines that tasks log.

SET LOCAL lock_timeout = '5s';

CREATE TABLE workflow_transition (
    execution_id uuid NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    kind transition_kind NOT NULL,
    task_id uuid,
    attempt integer,
    from_status text,
    to_status text,
    detail jsonb,
    PRIMARY KEY (execution_id, seq),
    CONSTRAINT workflow_transition_numbers CHECK (seq >= 1 AND attempt >= 0)
);

COMMENT ON TABLE workflow_transition IS
    'The log of executions: every change of state, in order. Two writers of one seq cannot both commit. Rows never change. Written by commit_turn_v1 with the change itself.';
COMMENT ON COLUMN workflow_transition.execution_id IS 'The execution.';
COMMENT ON COLUMN workflow_transition.seq IS 'Number of the entry within the execution, from 1 without a gap.';
COMMENT ON COLUMN workflow_transition.at IS 'When it happened: the time of the turn, by the clock of the database.';
COMMENT ON COLUMN workflow_transition.kind IS 'What happened.';
COMMENT ON COLUMN workflow_transition.task_id IS 'The run that it happened to (workflow_task.task_id); NULL for the execution as a whole.';
COMMENT ON COLUMN workflow_transition.attempt IS 'The attempt that it happened to.';
COMMENT ON COLUMN workflow_transition.from_status IS 'Status before, of the run or of the execution; NULL where there was none.';
COMMENT ON COLUMN workflow_transition.to_status IS 'Status after.';
COMMENT ON COLUMN workflow_transition.detail IS 'What else is worth knowing, an object: what was published, the error, the delay.';

CREATE TABLE workflow_timer (
    execution_id uuid NOT NULL,
    run integer NOT NULL,
    partition integer NOT NULL,
    kind timer_kind NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (execution_id, run)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
-- What an owner loads: the timers of one partition that are due soon.
CREATE INDEX workflow_timer_due ON workflow_timer (partition, due_at);

COMMENT ON TABLE workflow_timer IS
    'Timers that have not fired. A run has at most one. Written by commit_turn_v1; the turn that a timer causes removes or replaces it.';
COMMENT ON COLUMN workflow_timer.execution_id IS 'The execution.';
COMMENT ON COLUMN workflow_timer.run IS 'The run that it was set for (workflow_task.run).';
COMMENT ON COLUMN workflow_timer.partition IS 'Partition of the execution, so that its owner finds what is due.';
COMMENT ON COLUMN workflow_timer.kind IS 'Why it was set.';
COMMENT ON COLUMN workflow_timer.due_at IS 'When it fires, at the earliest, by the clock of the database.';

CREATE TABLE workflow_outbox (
    partition integer NOT NULL,
    turn bigint NOT NULL,
    execution_ids uuid[] NOT NULL,
    runs integer[] NOT NULL,
    attempts integer[] NOT NULL,
    replies jsonb,
    PRIMARY KEY (partition, turn),
    CONSTRAINT workflow_outbox_same_length CHECK (
        cardinality(execution_ids) = cardinality(runs)
        AND cardinality(runs) = cardinality(attempts)
    )
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

COMMENT ON TABLE workflow_outbox IS
    'What turns owe the broker until it has confirmed it: one row per partition and turn. Written by commit_turn_v1 with the turn, and removed by a later one once coordinator_partition.dispatched_through has passed it. A new owner publishes what it finds here.';
COMMENT ON COLUMN workflow_outbox.partition IS 'The partition (coordinator_partition.id).';
COMMENT ON COLUMN workflow_outbox.turn IS 'The turn that owes it (coordinator_partition.last_turn at that time).';
COMMENT ON COLUMN workflow_outbox.execution_ids IS 'Executions of the jobs; the message is made from the row of workflow_task.';
COMMENT ON COLUMN workflow_outbox.runs IS 'Runs of the jobs, in the same order.';
COMMENT ON COLUMN workflow_outbox.attempts IS 'Attempts of the jobs, in the same order.';
COMMENT ON COLUMN workflow_outbox.replies IS 'Replies, a list of reply_to and correlation_id, with type and body, or with the execution whose end is told; NULL if there are none.';

CREATE TABLE workflow_task_log (
    execution_id uuid NOT NULL,
    task_id uuid NOT NULL,
    attempt integer NOT NULL,
    line_no integer NOT NULL,
    at timestamptz NOT NULL,
    stream text NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (execution_id, task_id, attempt, line_no),
    CONSTRAINT workflow_task_log_numbers CHECK (attempt >= 1 AND line_no >= 1)
);

COMMENT ON TABLE workflow_task_log IS
    'Lines that tasks have logged. Written by coordinators from what workers report.';
COMMENT ON COLUMN workflow_task_log.execution_id IS 'The execution.';
COMMENT ON COLUMN workflow_task_log.task_id IS 'The run (workflow_task.task_id).';
COMMENT ON COLUMN workflow_task_log.attempt IS 'The attempt.';
COMMENT ON COLUMN workflow_task_log.line_no IS 'Number of the line within the attempt, from 1.';
COMMENT ON COLUMN workflow_task_log.at IS 'When the worker took the line.';
COMMENT ON COLUMN workflow_task_log.stream IS 'Where the line came from: stdout, stderr or log.';
COMMENT ON COLUMN workflow_task_log.text IS 'The line, without its end.';
