-- Messages that had no effect, messages that could not be used, and messages under suspicion.

SET LOCAL lock_timeout = '5s';

CREATE TABLE workflow_ignored_message (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    queue text NOT NULL,
    message_type text NOT NULL,
    execution_id uuid NOT NULL,
    task_id uuid,
    attempt integer,
    worker text,
    reason ignored_reason NOT NULL
);

COMMENT ON TABLE workflow_ignored_message IS
    'Messages of workers that had no effect, which is no error: duplicates and late completions. The newest 100,000 or somewhat more are kept. Written by commit_turn_v1.';
COMMENT ON COLUMN workflow_ignored_message.id IS 'Number of the row, ascending.';
COMMENT ON COLUMN workflow_ignored_message.received_at IS 'When it was recorded, by the clock of the database.';
COMMENT ON COLUMN workflow_ignored_message.queue IS 'The queue that it came from.';
COMMENT ON COLUMN workflow_ignored_message.message_type IS 'Its type.';
COMMENT ON COLUMN workflow_ignored_message.execution_id IS 'The execution that it names, which need not exist.';
COMMENT ON COLUMN workflow_ignored_message.task_id IS 'The run that it names, which need not exist.';
COMMENT ON COLUMN workflow_ignored_message.attempt IS 'The attempt that it names.';
COMMENT ON COLUMN workflow_ignored_message.worker IS 'The worker that sent it.';
COMMENT ON COLUMN workflow_ignored_message.reason IS 'Why it had no effect.';

CREATE TABLE workflow_dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    queue text NOT NULL,
    reason text NOT NULL,
    message_id text,
    message_key text NOT NULL,
    execution_id uuid,
    task_id uuid,
    properties jsonb NOT NULL,
    body text NOT NULL,
    body_bytes bytea,
    resolved_at timestamptz,
    resolution text,
    CONSTRAINT workflow_dead_letter_once UNIQUE (message_key),
    CONSTRAINT workflow_dead_letter_resolved CHECK ((resolved_at IS NULL) = (resolution IS NULL))
);

COMMENT ON TABLE workflow_dead_letter IS
    'Messages that could not be used, one row for each. Written by whichever coordinator takes them from the queue flotilla.dead; `flotilla dead` shows and resolves them.';
COMMENT ON COLUMN workflow_dead_letter.id IS 'Number of the row, ascending; commands take it.';
COMMENT ON COLUMN workflow_dead_letter.received_at IS 'When it was recorded, by the clock of the database.';
COMMENT ON COLUMN workflow_dead_letter.queue IS 'The queue that it came from first.';
COMMENT ON COLUMN workflow_dead_letter.reason IS 'Why it could not be used.';
COMMENT ON COLUMN workflow_dead_letter.message_id IS 'Its message id, if it has one.';
COMMENT ON COLUMN workflow_dead_letter.message_key IS 'Tells messages apart, so that one that is delivered again is recorded once: made from its id or from a hash of its content.';
COMMENT ON COLUMN workflow_dead_letter.execution_id IS 'The execution that it names, if that can be read.';
COMMENT ON COLUMN workflow_dead_letter.task_id IS 'The run that it names, if that can be read.';
COMMENT ON COLUMN workflow_dead_letter.properties IS 'Its properties and headers, an object.';
COMMENT ON COLUMN workflow_dead_letter.body IS 'Its body as text; what text cannot hold is replaced by U+FFFD.';
COMMENT ON COLUMN workflow_dead_letter.body_bytes IS 'Its body as it came, where the text is not that; NULL otherwise.';
COMMENT ON COLUMN workflow_dead_letter.resolved_at IS 'When somebody dealt with it; NULL before.';
COMMENT ON COLUMN workflow_dead_letter.resolution IS 'What was done with it: retried or discarded; NULL before.';

CREATE TABLE workflow_suspect_message (
    key text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE workflow_suspect_message IS
    'Messages that were delivered three times or more, written before they are taken alone; one that is found here again is poison. Written and removed by coordinators.';
COMMENT ON COLUMN workflow_suspect_message.key IS 'Tells messages apart, as workflow_dead_letter.message_key.';
COMMENT ON COLUMN workflow_suspect_message.seen_at IS 'When it was marked, by the clock of the database.';
