-- Workers that acknowledge a long job while it runs, and the silence that means their death.

SET LOCAL lock_timeout = '5s';

ALTER TYPE timer_kind ADD VALUE 'heartbeat';
COMMENT ON TYPE timer_kind IS
    'Why a timer was set: the next attempt is due; the attempt that runs reaches its time limit; a dispatch was put off because its step released too many jobs at once; an attempt that was told to stop has had its time to do so; nothing was heard for too long of the worker of an attempt whose job is acknowledged.';
COMMENT ON COLUMN workflow_timer.due_at IS
    'When it fires, at the earliest, by the clock of the database. Of a heartbeat timer: as the acknowledgement of the job set it; heartbeats move it in the memory of the owner alone, and a new owner gives a fresh window.';
COMMENT ON TYPE transition_kind IS
    'What an entry of the log of an execution says. The creation of a run and its first dispatch are one entry; job_resent is the same attempt published again, because its job was lost or its worker fell silent.';
