-- Who coordinates: the processes, and the partitions that they own under leases and epochs.

SET LOCAL lock_timeout = '5s';

CREATE TABLE coordinator (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

COMMENT ON TABLE coordinator IS
    'Coordinator processes, a row for each start of one. Written by the process itself; rows that have not been seen for a week are removed by the next one that starts.';
COMMENT ON COLUMN coordinator.id IS 'Names this start of the process; a restarted process has another id.';
COMMENT ON COLUMN coordinator.name IS 'Name that the operator gave, or that the process made up.';
COMMENT ON COLUMN coordinator.pid IS 'Process id on its host.';
COMMENT ON COLUMN coordinator.version IS 'Version of the program.';
COMMENT ON COLUMN coordinator.started_at IS 'When it started, by the clock of the database.';
COMMENT ON COLUMN coordinator.seen_at IS 'When it last said that it lives, by the clock of the database.';

-- Every commit updates rows here: the pages keep room so that the updates stay on them (HOT).
CREATE TABLE coordinator_partition (
    id integer PRIMARY KEY,
    owner uuid,
    epoch bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz NOT NULL DEFAULT '-infinity',
    last_turn bigint NOT NULL DEFAULT 0,
    turn_id uuid,
    dispatched_through bigint NOT NULL DEFAULT 0,
    CONSTRAINT coordinator_partition_id_not_negative CHECK (id >= 0),
    CONSTRAINT coordinator_partition_epoch_not_negative CHECK (epoch >= 0),
    CONSTRAINT coordinator_partition_dispatched_after_turn CHECK (dispatched_through BETWEEN 0 AND last_turn)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

COMMENT ON TABLE coordinator_partition IS
    'Partitions of executions. A partition has one owner at a time, and only its owner writes the executions in it: each of its commits must find its own epoch here. Rows are added by `flotilla migrate`, never removed.';
COMMENT ON COLUMN coordinator_partition.id IS 'Number of the partition, from 0.';
COMMENT ON COLUMN coordinator_partition.owner IS 'The coordinator that took it last (coordinator.id); NULL if it was released or never taken.';
COMMENT ON COLUMN coordinator_partition.epoch IS 'How often it has been taken. Raised by whoever takes it; a commit with another epoch is refused.';
COMMENT ON COLUMN coordinator_partition.lease_expires_at IS 'When others may take it, by the clock of the database. Renewed by every commit of its owner.';
COMMENT ON COLUMN coordinator_partition.last_turn IS 'Number of its last committed turn; each commit moves it by one.';
COMMENT ON COLUMN coordinator_partition.turn_id IS 'Id of that commit, by which a commit that is sent again is told from another.';
COMMENT ON COLUMN coordinator_partition.dispatched_through IS 'Every job and reply of the turns up to this one is confirmed by the broker; workflow_outbox holds rows above it only.';
