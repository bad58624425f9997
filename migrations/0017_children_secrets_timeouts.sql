-- Sub-workflows: an execution may be the child of a run of another. It lives in the partition of its
-- parent, and what they tell each other is committed with one turn. Secrets: an input names the places
-- that the worker fills in. And a start may say how long its execution may take.
--
-- commit_turn_v3 is commit_turn_v2 with these columns; what is said there holds here. Coordinators of
-- the version before go on with the former, and leave definitions with sub-workflows or secrets to those
-- that know them.

SET LOCAL lock_timeout = '5s';

ALTER TABLE workflow_execution
    ADD COLUMN parent_execution_id uuid,
    ADD COLUMN parent_run integer,
    ADD COLUMN timeout_s double precision,
    ADD CONSTRAINT workflow_execution_parent_is_complete CHECK (
        (parent_execution_id IS NULL) = (parent_run IS NULL)
    ) NOT VALID;
-- The children of an execution. Executions without a parent cost nothing here.
CREATE INDEX workflow_execution_children ON workflow_execution (parent_execution_id, parent_run)
    WHERE parent_execution_id IS NOT NULL;

COMMENT ON COLUMN workflow_execution.parent_execution_id IS 'The execution that started it as a child; NULL if nobody did.';
COMMENT ON COLUMN workflow_execution.timeout_s IS 'Seconds that the execution may take, where its start says so; NULL for what the definition says.';
COMMENT ON COLUMN workflow_execution.parent_run IS 'The run of that execution whose attempt it is (workflow_task.run); NULL without a parent.';
ALTER TABLE workflow_task ADD COLUMN secrets jsonb;
COMMENT ON COLUMN workflow_task.secrets IS 'The places of the input that the worker fills in, a list of {"at": JSON pointer, "parts": [{"text"} or {"secret": name}]}; NULL if there are none. What is filled in is never stored.';
COMMENT ON COLUMN workflow_task.input IS 'Rendered input of the current attempt, null where the worker fills in a secret; NULL before the first dispatch.';
COMMENT ON COLUMN workflow_task.action IS 'Rendered name of the action, or of the workflow that is run as a child; NULL before the first dispatch and for tasks without one.';
COMMENT ON COLUMN workflow_task.pool IS 'The worker pool; NULL for tasks without an action, and for sub-workflows, which no worker runs.';

CREATE OR REPLACE VIEW workflow_execution_summary AS
SELECT
    e.execution_id,
    e.workflow,
    e.version,
    e.status,
    e.parent_execution_id,
    e.idempotency_key,
    e.tags,
    e.partition,
    e.parameters || coalesce(e.ends #> '{rerun,parameters}', '{}') AS parameters,
    (
        SELECT coalesce(jsonb_object_agg(v.name, v.value), '{}')
        FROM jsonb_each_text(e.ends -> 'vars') AS seen (name, write_no)
        JOIN workflow_variable AS v
            ON v.execution_id = e.execution_id AND v.write_no = seen.write_no::bigint
    ) AS variables,
    nullif(e.output, 'null') AS output,
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

COMMENT ON COLUMN workflow_execution_summary.parameters IS 'Parameters with defaults filled in, and those that a rerun has given, an object.';
COMMENT ON COLUMN workflow_execution_summary.finished_at IS 'When it last ended; NULL while it lives.';

CREATE FUNCTION commit_turn_v3(
    -- The fence, ascending by partition.
    this_turn_id uuid,
    lease_seconds double precision,
    fence_partitions integer[],
    fence_epochs bigint[],
    fence_turns bigint[],
    fence_dispatched_through bigint[],
    -- Names of starts, ascending by execution.
    start_execution_ids uuid[],
    start_idempotency_keys text[],
    start_workflows text[],
    start_partitions integer[],
    -- Executions: what is written once, for new ones.
    created_definition_hashes bytea[],
    created_workflows text[],
    created_versions text[],
    created_partitions integer[],
    created_idempotency_keys text[],
    created_tags jsonb[],
    created_parameters jsonb[],
    created_traceparents text[],
    created_execution_ats timestamptz[],
    -- Of children; empty if the turn creates none.
    created_parent_execution_ids uuid[],
    created_parent_runs integer[],
    -- Of starts with a time limit; empty if the turn has none.
    created_timeouts double precision[],
    -- Executions: what changes. Nine counts for each, in the order of the columns.
    execution_ids uuid[],
    execution_statuses text[],
    execution_counts integer[],
    execution_visits text[],
    execution_last_runs integer[],
    execution_last_writes bigint[],
    execution_last_seqs bigint[],
    execution_live_runs text[],
    execution_ends jsonb[],
    execution_errors jsonb[],
    execution_outputs jsonb[],
    execution_reply_tos jsonb[],
    execution_finished_ats timestamptz[],
    -- Tasks: what is written once, for new ones.
    created_task_ids uuid[],
    created_tasks text[],
    created_task_visits integer[],
    created_task_ats timestamptz[],
    -- Of items; empty if the turn creates none.
    created_task_item_ofs integer[],
    created_task_item_indexes integer[],
    created_task_batch_sizes integer[],
    -- Tasks: what changes.
    task_execution_ids uuid[],
    task_runs integer[],
    task_statuses text[],
    task_attempts integer[],
    task_max_attempts integer[],
    task_starts integer[],
    task_helds boolean[],
    task_actions text[],
    task_pools text[],
    task_timeouts double precision[],
    task_inputs jsonb[],
    task_branches jsonb[],
    task_caused_by text[],
    task_arrived text[],
    task_workers text[],
    task_results jsonb[],
    task_errors jsonb[],
    task_dispatched_ats timestamptz[],
    task_started_ats timestamptz[],
    task_finished_ats timestamptz[],
    -- Of tasks with items; empty if the turn has none.
    task_items jsonb[],
    task_item_progresses jsonb[],
    -- Of tasks with secrets; empty if the turn has none.
    task_secrets jsonb[],
    -- Variables.
    variable_execution_ids uuid[],
    variable_write_nos bigint[],
    variable_names text[],
    variable_values jsonb[],
    variable_previous_write_nos bigint[],
    -- Log entries.
    transition_execution_ids uuid[],
    transition_seqs bigint[],
    transition_ats timestamptz[],
    transition_kinds text[],
    transition_task_ids uuid[],
    transition_attempts integer[],
    transition_from_statuses text[],
    transition_to_statuses text[],
    transition_details jsonb[],
    -- Timers to set and to clear; clearing comes first.
    timer_execution_ids uuid[],
    timer_runs integer[],
    timer_partitions integer[],
    timer_kinds text[],
    timer_due_ats timestamptz[],
    cleared_execution_ids uuid[],
    cleared_runs integer[],
    -- Outbox: a row for each partition that owes something, whose jobs are first to last of job_*.
    outbox_partitions integer[],
    outbox_turns bigint[],
    outbox_firsts integer[],
    outbox_lasts integer[],
    outbox_replies jsonb[],
    job_execution_ids uuid[],
    job_runs integer[],
    job_attempts integer[],
    -- Ignored messages, a list of objects; NULL if there are none.
    ignored jsonb,
    OUT answer text,
    OUT clock timestamptz
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_material = off
SET enable_memoize = off
AS $$
DECLARE
    moved integer[];
    moved_from bigint[];
    moved_to bigint[];
    missed integer[];
    created_executions integer := cardinality(created_partitions);
    created_runs integer := cardinality(created_task_visits);
    first_ignored bigint;
    last_ignored bigint;
    hit integer;
BEGIN
    -- The fence. Locks the partitions' rows in the order of their ids, since the arrays ascend, and
    -- holds them until the end of this statement: no take-over can come between.
    WITH passed AS (
        UPDATE coordinator_partition AS p
        SET last_turn = f.turn,
            turn_id = this_turn_id,
            lease_expires_at = clock_timestamp() + make_interval(secs => lease_seconds),
            dispatched_through = greatest(p.dispatched_through, f.dispatched_through)
        FROM unnest(fence_partitions, fence_epochs, fence_turns, fence_dispatched_through)
            AS f (partition, epoch, turn, dispatched_through)
        JOIN coordinator_partition AS b ON b.id = f.partition
        WHERE p.id = f.partition AND p.epoch = f.epoch AND p.last_turn = f.turn - 1
        RETURNING p.id, b.dispatched_through AS dispatched_from, p.dispatched_through AS dispatched_to
    )
    SELECT coalesce(array_agg(id), '{}'), array_agg(dispatched_from), array_agg(dispatched_to)
    INTO moved, moved_from, moved_to
    FROM passed;

    IF cardinality(moved) < cardinality(fence_partitions) THEN
        -- Sent again after its answer was lost: its own mark stands on a row that it could not move.
        IF cardinality(moved) = 0 AND EXISTS (
            SELECT FROM unnest(fence_partitions, fence_epochs, fence_turns) AS f (partition, epoch, turn)
            JOIN coordinator_partition AS p
                ON p.id = f.partition AND p.epoch = f.epoch AND p.last_turn = f.turn
            WHERE p.turn_id = this_turn_id
        ) THEN
            answer := 'already';
            clock := clock_timestamp();
            RETURN;
        END IF;
        SELECT array_agg(f.partition) INTO missed
        FROM unnest(fence_partitions) AS f (partition)
        WHERE f.partition <> ALL (moved);
        RAISE EXCEPTION 'the turn has lost partitions'
            USING ERRCODE = 'FL001', DETAIL = array_to_string(missed, ',');
    END IF;

    IF moved_from <> moved_to THEN
        DELETE FROM workflow_outbox AS o
        USING unnest(moved, moved_from, moved_to) AS f (partition, dispatched_from, dispatched_to),
        LATERAL (
            SELECT k.ctid AS place
            FROM workflow_outbox AS k
            WHERE k.partition = f.partition
                AND k.turn > f.dispatched_from AND k.turn <= f.dispatched_to
            OFFSET 0
        ) AS k
        WHERE o.ctid = k.place;
    END IF;

    IF cardinality(start_execution_ids) > 0 THEN
        -- In the order of ids, so that two turns with the same starts wait for each other in order.
        INSERT INTO workflow_start (execution_id, idempotency_key, workflow, partition)
        SELECT * FROM unnest(
            start_execution_ids, start_idempotency_keys, start_workflows, start_partitions
        );
    END IF;

    IF created_executions > 0 THEN
        INSERT INTO workflow_execution (
            execution_id, definition_hash, workflow, version, partition, idempotency_key, tags,
            parameters, traceparent, created_at, status,
            tasks_total, tasks_active, tasks_succeeded, tasks_failed, tasks_timed_out,
            tasks_cancelled, tasks_skipped, tasks_omitted, attempts_total,
            visits, last_run, last_write, last_seq, live_runs, ends, errors, output, reply_to,
            finished_at, parent_execution_id, parent_run, timeout_s
        )
        SELECT
            e.execution_id, e.definition_hash, e.workflow, e.version, e.partition,
            e.idempotency_key, e.tags, e.parameters, e.traceparent, e.created_at,
            e.status::execution_status,
            execution_counts[9 * e.n - 8], execution_counts[9 * e.n - 7],
            execution_counts[9 * e.n - 6], execution_counts[9 * e.n - 5],
            execution_counts[9 * e.n - 4], execution_counts[9 * e.n - 3],
            execution_counts[9 * e.n - 2], execution_counts[9 * e.n - 1],
            execution_counts[9 * e.n],
            e.visits::integer[], e.last_run, e.last_write, e.last_seq, e.live_runs::integer[],
            e.ends, coalesce(e.errors, '[]'), e.output, e.reply_to, e.finished_at,
            e.parent_execution_id, e.parent_run, e.timeout_s
        FROM unnest(
            created_definition_hashes, created_workflows, created_versions, created_partitions,
            created_idempotency_keys, created_tags, created_parameters, created_traceparents,
            created_execution_ats, execution_ids, execution_statuses, execution_visits,
            execution_last_runs, execution_last_writes, execution_last_seqs, execution_live_runs,
            execution_ends, execution_errors, execution_outputs, execution_reply_tos,
            execution_finished_ats, created_parent_execution_ids, created_parent_runs,
            created_timeouts
        ) WITH ORDINALITY AS e (
            definition_hash, workflow, version, partition, idempotency_key, tags, parameters,
            traceparent, created_at, execution_id, status, visits, last_run, last_write, last_seq,
            live_runs, ends, errors, output, reply_to, finished_at, parent_execution_id, parent_run,
            timeout_s, n
        )
        WHERE e.n <= created_executions;
    END IF;

    IF cardinality(execution_ids) > created_executions THEN
        UPDATE workflow_execution AS e
        SET status = u.status::execution_status,
            tasks_total = execution_counts[9 * u.n - 8],
            tasks_active = execution_counts[9 * u.n - 7],
            tasks_succeeded = execution_counts[9 * u.n - 6],
            tasks_failed = execution_counts[9 * u.n - 5],
            tasks_timed_out = execution_counts[9 * u.n - 4],
            tasks_cancelled = execution_counts[9 * u.n - 3],
            tasks_skipped = execution_counts[9 * u.n - 2],
            tasks_omitted = execution_counts[9 * u.n - 1],
            attempts_total = execution_counts[9 * u.n],
            visits = u.visits::integer[],
            last_run = u.last_run,
            last_write = u.last_write,
            last_seq = u.last_seq,
            live_runs = u.live_runs::integer[],
            ends = u.ends,
            errors = coalesce(u.errors, e.errors),
            output = coalesce(u.output, e.output),
            reply_to = coalesce(u.reply_to, e.reply_to),
            finished_at = u.finished_at
        FROM unnest(
            execution_ids, execution_statuses, execution_visits, execution_last_runs,
            execution_last_writes, execution_last_seqs, execution_live_runs, execution_ends,
            execution_errors, execution_outputs, execution_reply_tos, execution_finished_ats
        ) WITH ORDINALITY AS u (
            execution_id, status, visits, last_run, last_write, last_seq, live_runs, ends,
            errors, output, reply_to, finished_at, n
        )
        WHERE u.n > created_executions
            AND e.ctid = (
                SELECT k.ctid FROM workflow_execution AS k WHERE k.execution_id = u.execution_id
            );
        GET DIAGNOSTICS hit = ROW_COUNT;
        IF hit <> cardinality(execution_ids) - created_executions THEN
            RAISE EXCEPTION 'the turn changes % executions, of which % are there',
                cardinality(execution_ids) - created_executions, hit
                USING ERRCODE = 'FL002';
        END IF;
    END IF;

    IF created_runs > 0 THEN
        INSERT INTO workflow_task (
            execution_id, run, task_id, task, visit, created_at, status, attempt, max_attempts,
            starts, held, action, pool, timeout_s, input, branch, caused_by, arrived, worker,
            result, error, dispatched_at, started_at, finished_at, item_of, item_index, batch_size,
            items, item_progress, secrets
        )
        SELECT
            t.execution_id, t.run, t.task_id, t.task, t.visit, t.created_at,
            t.status::task_status, t.attempt, t.max_attempts, t.starts, t.held, t.action, t.pool,
            t.timeout_s, t.input, coalesce(t.branch, '{}'), t.caused_by::integer[],
            t.arrived::integer[], t.worker, t.result, nullif(t.error, 'null'), t.dispatched_at,
            t.started_at, t.finished_at, t.item_of, t.item_index, t.batch_size, t.items,
            t.item_progress, t.secrets
        FROM unnest(
            task_execution_ids, task_runs, created_task_ids, created_tasks, created_task_visits,
            created_task_ats, task_statuses, task_attempts, task_max_attempts, task_starts,
            task_helds, task_actions, task_pools, task_timeouts, task_inputs, task_branches,
            task_caused_by, task_arrived, task_workers, task_results, task_errors,
            task_dispatched_ats, task_started_ats, task_finished_ats, created_task_item_ofs,
            created_task_item_indexes, created_task_batch_sizes, task_items, task_item_progresses,
            task_secrets
        ) WITH ORDINALITY AS t (
            execution_id, run, task_id, task, visit, created_at, status, attempt, max_attempts,
            starts, held, action, pool, timeout_s, input, branch, caused_by, arrived, worker,
            result, error, dispatched_at, started_at, finished_at, item_of, item_index, batch_size,
            items, item_progress, secrets, n
        )
        WHERE t.n <= created_runs;
    END IF;

    IF cardinality(task_runs) > created_runs THEN
        -- What an attempt left is replaced as a whole: an error does not outlive the next result.
        UPDATE workflow_task AS t
        SET status = u.status::task_status,
            attempt = u.attempt,
            max_attempts = u.max_attempts,
            starts = u.starts,
            held = u.held,
            action = u.action,
            pool = u.pool,
            timeout_s = u.timeout_s,
            input = coalesce(u.input, t.input),
            branch = coalesce(u.branch, t.branch),
            caused_by = u.caused_by::integer[],
            arrived = u.arrived::integer[],
            worker = u.worker,
            result = CASE WHEN u.result IS NULL AND u.error IS NULL THEN t.result
                ELSE u.result END,
            error = CASE WHEN u.result IS NULL AND u.error IS NULL THEN t.error
                ELSE nullif(u.error, 'null') END,
            dispatched_at = u.dispatched_at,
            started_at = u.started_at,
            finished_at = u.finished_at,
            items = coalesce(u.items, t.items),
            item_progress = coalesce(u.item_progress, t.item_progress),
            secrets = coalesce(u.secrets, t.secrets)
        FROM unnest(
            task_execution_ids, task_runs, task_statuses, task_attempts, task_max_attempts,
            task_starts, task_helds, task_actions, task_pools, task_timeouts, task_inputs,
            task_branches, task_caused_by, task_arrived, task_workers, task_results, task_errors,
            task_dispatched_ats, task_started_ats, task_finished_ats, task_items,
            task_item_progresses, task_secrets
        ) WITH ORDINALITY AS u (
            execution_id, run, status, attempt, max_attempts, starts, held, action, pool,
            timeout_s, input, branch, caused_by, arrived, worker, result, error, dispatched_at,
            started_at, finished_at, items, item_progress, secrets, n
        )
        WHERE u.n > created_runs
            AND t.ctid = (
                SELECT k.ctid
                FROM workflow_task AS k
                WHERE k.execution_id = u.execution_id AND k.run = u.run
            );
        GET DIAGNOSTICS hit = ROW_COUNT;
        IF hit <> cardinality(task_runs) - created_runs THEN
            RAISE EXCEPTION 'the turn changes % tasks, of which % are there',
                cardinality(task_runs) - created_runs, hit
                USING ERRCODE = 'FL002';
        END IF;
    END IF;

    IF cardinality(variable_write_nos) > 0 THEN
        INSERT INTO workflow_variable (execution_id, write_no, name, value, previous_write_no)
        SELECT * FROM unnest(
            variable_execution_ids, variable_write_nos, variable_names, variable_values,
            variable_previous_write_nos
        );
    END IF;

    IF cardinality(transition_seqs) > 0 THEN
        INSERT INTO workflow_transition (
            execution_id, seq, at, kind, task_id, attempt, from_status, to_status, detail
        )
        SELECT
            l.execution_id, l.seq, l.at, l.kind::transition_kind, l.task_id, l.attempt,
            l.from_status, l.to_status, l.detail
        FROM unnest(
            transition_execution_ids, transition_seqs, transition_ats, transition_kinds,
            transition_task_ids, transition_attempts, transition_from_statuses,
            transition_to_statuses, transition_details
        ) AS l (execution_id, seq, at, kind, task_id, attempt, from_status, to_status, detail);
    END IF;

    IF cardinality(cleared_runs) > 0 THEN
        DELETE FROM workflow_timer AS t
        USING unnest(cleared_execution_ids, cleared_runs) AS c (execution_id, run)
        WHERE t.ctid = (
            SELECT k.ctid
            FROM workflow_timer AS k
            WHERE k.execution_id = c.execution_id AND k.run = c.run
        );
    END IF;

    IF cardinality(timer_runs) > 0 THEN
        INSERT INTO workflow_timer (execution_id, run, partition, kind, due_at)
        SELECT s.execution_id, s.run, s.partition, s.kind::timer_kind, s.due_at
        FROM unnest(
            timer_execution_ids, timer_runs, timer_partitions, timer_kinds, timer_due_ats
        ) AS s (execution_id, run, partition, kind, due_at)
        ON CONFLICT (execution_id, run)
        DO UPDATE SET kind = excluded.kind, due_at = excluded.due_at;
    END IF;

    IF cardinality(outbox_partitions) > 0 THEN
        INSERT INTO workflow_outbox (partition, turn, execution_ids, runs, attempts, replies)
        SELECT
            o.partition, o.turn, job_execution_ids[o.first:o.last], job_runs[o.first:o.last],
            job_attempts[o.first:o.last], o.replies
        FROM unnest(outbox_partitions, outbox_turns, outbox_firsts, outbox_lasts, outbox_replies)
            AS o (partition, turn, first, last, replies);
    END IF;

    IF ignored IS NOT NULL THEN
        WITH written AS (
            INSERT INTO workflow_ignored_message (
                queue, message_type, execution_id, task_id, attempt, worker, reason
            )
            SELECT * FROM jsonb_to_recordset(ignored) AS i (
                queue text, message_type text, execution_id uuid, task_id uuid, attempt integer,
                worker text, reason ignored_reason
            )
            RETURNING id
        )
        SELECT min(id), max(id) INTO first_ignored, last_ignored FROM written;
        -- Now and then, so that not every turn looks for rows to remove.
        IF (first_ignored - 1) / 1000 <> last_ignored / 1000 THEN
            DELETE FROM workflow_ignored_message WHERE id <= last_ignored - 100000;
        END IF;
    END IF;

    answer := 'ok';
    clock := clock_timestamp();
END
$$;

COMMENT ON FUNCTION commit_turn_v3 IS
    'Commits one turn of a coordinator, or nothing. Answers ok, or already if the same turn was committed before, and the clock of the database. Raises FL001 if partitions belong to somebody else (their ids in the detail), FL002 if a row to change is not there.';
