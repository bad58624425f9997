-- The enum types: every status, kind and reason is a word that a person can read.

SET LOCAL lock_timeout = '5s';

CREATE TYPE execution_status AS ENUM (
    'running', 'pausing', 'paused', 'cancelling', 'failing',
    'succeeded', 'failed', 'cancelled', 'timed_out'
);
COMMENT ON TYPE execution_status IS
    'Where an execution stands. Final: succeeded, failed, cancelled, timed_out.';

CREATE TYPE task_status AS ENUM (
    'waiting', 'delayed', 'dispatched', 'running', 'retrying',
    'succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'omitted'
);
COMMENT ON TYPE task_status IS
    'Where a run of a task stands. Final: succeeded, failed, timed_out, cancelled, skipped, omitted.';

CREATE TYPE transition_kind AS ENUM (
    'execution_started', 'task_dispatched', 'task_started', 'task_ended', 'task_retry_scheduled',
    'join_arrived', 'control_applied', 'execution_status_changed'
);
COMMENT ON TYPE transition_kind IS
    'What an entry of the log of an execution says. The creation of a run and its first dispatch are one entry.';

CREATE TYPE timer_kind AS ENUM ('retry', 'deadline', 'dispatch');
COMMENT ON TYPE timer_kind IS
    'Why a timer was set: the next attempt is due; the attempt that runs reaches its time limit; a dispatch was put off because its step released too many jobs at once.';

CREATE TYPE ignored_reason AS ENUM (
    'unknown_execution', 'unknown_task', 'stale_attempt', 'already_completed', 'execution_finished'
);
COMMENT ON TYPE ignored_reason IS
    'Why a message of a worker had no effect.';
