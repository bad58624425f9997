-- Delays, and the time limits that outlive an attempt: of all attempts of a run together, and of an
-- execution as a whole.

SET LOCAL lock_timeout = '5s';

ALTER TYPE timer_kind ADD VALUE 'delay';
ALTER TYPE timer_kind ADD VALUE 'total_timeout';
ALTER TYPE timer_kind ADD VALUE 'execution_timeout';
COMMENT ON TYPE timer_kind IS
    'Why a timer was set: the next attempt is due; the attempt that runs reaches its time limit; a dispatch was put off because its step released too many jobs at once; an attempt that was told to stop has had its time to do so; nothing was heard for too long of the worker of an attempt whose job is acknowledged, or whose task says how long it may be silent; the delay of a task is over; all attempts of a run together have had their time; the execution as a whole has taken as long as it may.';
COMMENT ON TABLE workflow_timer IS
    'Timers that have not fired. A run has at most one, and an execution as a whole another. Written by commit_turn_v2; the turn that a timer causes removes or replaces it.';
COMMENT ON COLUMN workflow_timer.run IS
    'The run that it was set for (workflow_task.run); 0 for the execution as a whole.';
COMMENT ON COLUMN workflow_timer.due_at IS
    'When it fires, at the earliest, by the clock of the database. Of a heartbeat timer: as the start of the attempt or the acknowledgement of its job set it; heartbeats move it in the memory of the owner alone, and a new owner gives a fresh window.';
COMMENT ON COLUMN workflow_task.branch IS
    'What the run sees and hands on: vars (name to write_no), tasks (name to run), passed (join to count), route (run of the split that opened its route), cut (it stood beside fail, nothing follows). Of a task with needs also needed (how those have ended that have); of one whose attempts together are limited until, when they have had their time. Empty parts are left out.';
