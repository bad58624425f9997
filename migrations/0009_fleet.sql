-- What several coordinators need of each other, and what control messages leave.

SET LOCAL lock_timeout = '5s';

ALTER TYPE timer_kind ADD VALUE 'cancel';
COMMENT ON TYPE timer_kind IS
    'Why a timer was set: the next attempt is due; the attempt that runs reaches its time limit; a dispatch was put off because its step released too many jobs at once; an attempt that was told to stop has had its time to do so.';

ALTER TYPE transition_kind ADD VALUE 'job_resent';
COMMENT ON TYPE transition_kind IS
    'What an entry of the log of an execution says. The creation of a run and its first dispatch are one entry; job_resent is the same attempt published again, because its job was lost.';

ALTER TABLE coordinator ADD COLUMN stopped_at timestamptz;
COMMENT ON COLUMN coordinator.stopped_at IS 'When it stopped cleanly, by the clock of the database; NULL while it lives, and after a crash. One that has stopped counts no more when partitions are shared.';

ALTER TABLE workflow_suspect_message ADD COLUMN owner uuid;
COMMENT ON COLUMN workflow_suspect_message.owner IS 'The coordinator that was about to take it (coordinator.id); only if that one has died is the message to blame.';

-- Executions that live, by partition: for the look after lost jobs, and for whoever asks what is
-- going on. Of the columns that change it names finished_at alone, so only the last update of an
-- execution is not HOT.
CREATE INDEX workflow_execution_live ON workflow_execution (partition) WHERE finished_at IS NULL;
