-- commit_turn_v4 does what commit_turn_v3 does for less. Coordinators of the version before go on with the
-- former.
--
-- Rows are read from the arrays by position: PL/pgSQL keeps its arrays apart by element, so that each is
-- found at once, while unnest of many arrays keeps a table for each of them. An array in which nothing
-- stands is NULL, since each that is not costs memory of its own, and a turn of one task needs half of
-- them. Settings for planning are those of the connection, which sets them once; the function set seven
-- and took them back at each call.

CREATE FUNCTION commit_turn_v4(
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
    -- Of children.
    created_parent_execution_ids uuid[],
    created_parent_runs integer[],
    -- Of starts with a time limit.
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
    -- Of items.
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
    -- Of tasks with items.
    task_items jsonb[],
    task_item_progresses jsonb[],
    -- Of tasks with secrets.
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
AS $$
DECLARE
    moved integer[];
    moved_from bigint[];
    moved_to bigint[];
    missed integer[];
    created_executions integer := coalesce(cardinality(created_partitions), 0);
    created_runs integer := coalesce(cardinality(created_task_visits), 0);
    first_ignored bigint;
    last_ignored bigint;
    hit integer;
BEGIN
    -- The fence. Locks the partitions' rows in the order of their ids, since the arrays ascend, and
    -- holds them until the end of this statement: no take-over can come between.
    WITH passed AS (
        UPDATE coordinator_partition AS p
        SET last_turn = fence_turns[n],
            turn_id = this_turn_id,
            lease_expires_at = clock_timestamp() + make_interval(secs => lease_seconds),
            dispatched_through = greatest(p.dispatched_through, fence_dispatched_through[n])
        FROM generate_series(1, cardinality(fence_partitions)) AS n
        JOIN coordinator_partition AS b ON b.id = fence_partitions[n]
        WHERE p.id = fence_partitions[n]
            AND p.epoch = fence_epochs[n]
            AND p.last_turn = fence_turns[n] - 1
        RETURNING p.id, b.dispatched_through AS dispatched_from, p.dispatched_through AS dispatched_to
    )
    SELECT coalesce(array_agg(id), '{}'), array_agg(dispatched_from), array_agg(dispatched_to)
    INTO moved, moved_from, moved_to
    FROM passed;

    IF cardinality(moved) < cardinality(fence_partitions) THEN
        -- Sent again after its answer was lost: its own mark stands on a row that it could not move.
        IF cardinality(moved) = 0 AND EXISTS (
            SELECT FROM generate_series(1, cardinality(fence_partitions)) AS n
            JOIN coordinator_partition AS p
                ON p.id = fence_partitions[n]
                    AND p.epoch = fence_epochs[n]
                    AND p.last_turn = fence_turns[n]
            WHERE p.turn_id = this_turn_id
        ) THEN
            answer := 'already';
            clock := clock_timestamp();
            RETURN;
        END IF;
        SELECT array_agg(fence_partitions[n]) INTO missed
        FROM generate_series(1, cardinality(fence_partitions)) AS n
        WHERE fence_partitions[n] <> ALL (moved);
        RAISE EXCEPTION 'the turn has lost partitions'
            USING ERRCODE = 'FL001', DETAIL = array_to_string(missed, ',');
    END IF;

    IF moved_from <> moved_to THEN
        DELETE FROM workflow_outbox AS o
        USING generate_series(1, cardinality(moved)) AS n,
        LATERAL (
            SELECT k.ctid AS place
            FROM workflow_outbox AS k
            WHERE k.partition = moved[n]
                AND k.turn > moved_from[n] AND k.turn <= moved_to[n]
            OFFSET 0
        ) AS k
        WHERE o.ctid = k.place;
    END IF;

    IF cardinality(start_execution_ids) > 0 THEN
        -- In the order of ids, so that two turns with the same starts wait for each other in order.
        INSERT INTO workflow_start (execution_id, idempotency_key, workflow, partition)
        SELECT
            start_execution_ids[n], start_idempotency_keys[n], start_workflows[n],
            start_partitions[n]
        FROM generate_series(1, cardinality(start_execution_ids)) AS n;
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
            execution_ids[n], created_definition_hashes[n], created_workflows[n],
            created_versions[n], created_partitions[n], created_idempotency_keys[n],
            created_tags[n], created_parameters[n], created_traceparents[n],
            created_execution_ats[n], execution_statuses[n]::execution_status,
            execution_counts[9 * n - 8], execution_counts[9 * n - 7], execution_counts[9 * n - 6],
            execution_counts[9 * n - 5], execution_counts[9 * n - 4], execution_counts[9 * n - 3],
            execution_counts[9 * n - 2], execution_counts[9 * n - 1], execution_counts[9 * n],
            execution_visits[n]::integer[], execution_last_runs[n], execution_last_writes[n],
            execution_last_seqs[n], execution_live_runs[n]::integer[], execution_ends[n],
            coalesce(execution_errors[n], '[]'), execution_outputs[n], execution_reply_tos[n],
            execution_finished_ats[n], created_parent_execution_ids[n], created_parent_runs[n],
            created_timeouts[n]
        FROM generate_series(1, created_executions) AS n;
    END IF;

    IF cardinality(execution_ids) > created_executions THEN
        UPDATE workflow_execution AS e
        SET status = execution_statuses[n]::execution_status,
            tasks_total = execution_counts[9 * n - 8],
            tasks_active = execution_counts[9 * n - 7],
            tasks_succeeded = execution_counts[9 * n - 6],
            tasks_failed = execution_counts[9 * n - 5],
            tasks_timed_out = execution_counts[9 * n - 4],
            tasks_cancelled = execution_counts[9 * n - 3],
            tasks_skipped = execution_counts[9 * n - 2],
            tasks_omitted = execution_counts[9 * n - 1],
            attempts_total = execution_counts[9 * n],
            visits = execution_visits[n]::integer[],
            last_run = execution_last_runs[n],
            last_write = execution_last_writes[n],
            last_seq = execution_last_seqs[n],
            live_runs = execution_live_runs[n]::integer[],
            ends = execution_ends[n],
            errors = coalesce(execution_errors[n], e.errors),
            output = coalesce(execution_outputs[n], e.output),
            reply_to = coalesce(execution_reply_tos[n], e.reply_to),
            finished_at = execution_finished_ats[n]
        FROM generate_series(created_executions + 1, cardinality(execution_ids)) AS n
        WHERE e.ctid = (
            SELECT k.ctid FROM workflow_execution AS k WHERE k.execution_id = execution_ids[n]
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
            task_execution_ids[n], task_runs[n], created_task_ids[n], created_tasks[n],
            created_task_visits[n], created_task_ats[n], task_statuses[n]::task_status,
            task_attempts[n], task_max_attempts[n], task_starts[n], task_helds[n], task_actions[n],
            task_pools[n], task_timeouts[n], task_inputs[n], coalesce(task_branches[n], '{}'),
            task_caused_by[n]::integer[], task_arrived[n]::integer[], task_workers[n],
            task_results[n], nullif(task_errors[n], 'null'), task_dispatched_ats[n],
            task_started_ats[n], task_finished_ats[n], created_task_item_ofs[n],
            created_task_item_indexes[n], created_task_batch_sizes[n], task_items[n],
            task_item_progresses[n], task_secrets[n]
        FROM generate_series(1, created_runs) AS n;
    END IF;

    IF cardinality(task_runs) > created_runs THEN
        -- What an attempt left is replaced as a whole: an error does not outlive the next result.
        UPDATE workflow_task AS t
        SET status = task_statuses[n]::task_status,
            attempt = task_attempts[n],
            max_attempts = task_max_attempts[n],
            starts = task_starts[n],
            held = task_helds[n],
            action = task_actions[n],
            pool = task_pools[n],
            timeout_s = task_timeouts[n],
            input = coalesce(task_inputs[n], t.input),
            branch = coalesce(task_branches[n], t.branch),
            caused_by = task_caused_by[n]::integer[],
            arrived = task_arrived[n]::integer[],
            worker = task_workers[n],
            result = CASE WHEN task_results[n] IS NULL AND task_errors[n] IS NULL THEN t.result
                ELSE task_results[n] END,
            error = CASE WHEN task_results[n] IS NULL AND task_errors[n] IS NULL THEN t.error
                ELSE nullif(task_errors[n], 'null') END,
            dispatched_at = task_dispatched_ats[n],
            started_at = task_started_ats[n],
            finished_at = task_finished_ats[n],
            items = coalesce(task_items[n], t.items),
            item_progress = coalesce(task_item_progresses[n], t.item_progress),
            secrets = coalesce(task_secrets[n], t.secrets)
        FROM generate_series(created_runs + 1, cardinality(task_runs)) AS n
        WHERE t.ctid = (
            SELECT k.ctid
            FROM workflow_task AS k
            WHERE k.execution_id = task_execution_ids[n] AND k.run = task_runs[n]
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
        SELECT
            variable_execution_ids[n], variable_write_nos[n], variable_names[n], variable_values[n],
            variable_previous_write_nos[n]
        FROM generate_series(1, cardinality(variable_execution_ids)) AS n;
    END IF;

    IF cardinality(transition_seqs) > 0 THEN
        INSERT INTO workflow_transition (
            execution_id, seq, at, kind, task_id, attempt, from_status, to_status, detail
        )
        SELECT
            transition_execution_ids[n], transition_seqs[n], transition_ats[n],
            transition_kinds[n]::transition_kind, transition_task_ids[n], transition_attempts[n],
            transition_from_statuses[n], transition_to_statuses[n], transition_details[n]
        FROM generate_series(1, cardinality(transition_execution_ids)) AS n;
    END IF;

    IF cardinality(cleared_runs) > 0 THEN
        DELETE FROM workflow_timer AS t
        USING generate_series(1, cardinality(cleared_execution_ids)) AS n
        WHERE t.ctid = (
            SELECT k.ctid
            FROM workflow_timer AS k
            WHERE k.execution_id = cleared_execution_ids[n] AND k.run = cleared_runs[n]
        );
    END IF;

    IF cardinality(timer_runs) > 0 THEN
        INSERT INTO workflow_timer (execution_id, run, partition, kind, due_at)
        SELECT
            timer_execution_ids[n], timer_runs[n], timer_partitions[n], timer_kinds[n]::timer_kind,
            timer_due_ats[n]
        FROM generate_series(1, cardinality(timer_execution_ids)) AS n
        ON CONFLICT (execution_id, run)
        DO UPDATE SET kind = excluded.kind, due_at = excluded.due_at;
    END IF;

    IF cardinality(outbox_partitions) > 0 THEN
        INSERT INTO workflow_outbox (partition, turn, execution_ids, runs, attempts, replies)
        SELECT
            outbox_partitions[n], outbox_turns[n],
            coalesce(job_execution_ids[outbox_firsts[n]:outbox_lasts[n]], '{}'),
            coalesce(job_runs[outbox_firsts[n]:outbox_lasts[n]], '{}'),
            coalesce(job_attempts[outbox_firsts[n]:outbox_lasts[n]], '{}'), outbox_replies[n]
        FROM generate_series(1, cardinality(outbox_partitions)) AS n;
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

COMMENT ON FUNCTION commit_turn_v4 IS
    'Commits one turn of a coordinator, or nothing. Answers ok, or already if the same turn was committed before, and the clock of the database. Raises FL001 if partitions belong to somebody else (their ids in the detail), FL002 if a row to change is not there.';
