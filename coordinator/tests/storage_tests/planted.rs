//! What violates each invariant: the history of `history.rs` with one thing changed. Names of
//! executions stand for their ids.

/// The invariant, and the statements that plant its violation.
pub const PLANTED: &[(&str, &str)] = &[
    (
        "log_without_gap",
        "DELETE FROM workflow_transition WHERE execution_id = $SUCCEEDED AND seq = 4",
    ),
    (
        "log_entries_are_complete",
        "UPDATE workflow_transition SET attempt = NULL \
         WHERE execution_id = $SUCCEEDED AND kind = 'task_started'",
    ),
    (
        "log_names_runs",
        "UPDATE workflow_transition SET task_id = gen_random_uuid() \
         WHERE execution_id = $SUCCEEDED AND seq = 2",
    ),
    (
        "log_times_in_order",
        "UPDATE workflow_transition SET at = at - interval '2 minutes' \
         WHERE execution_id = $SUCCEEDED AND seq = 3",
    ),
    (
        "execution_starts_and_ends_once",
        "UPDATE workflow_transition SET kind = 'control_applied' \
         WHERE execution_id = $SUCCEEDED AND seq = 1",
    ),
    (
        "nothing_follows_the_end",
        "INSERT INTO workflow_transition (execution_id, seq, at, kind) \
         SELECT execution_id, last_seq + 1, now(), 'control_applied' FROM workflow_execution \
         WHERE execution_id = $SUCCEEDED; \
         UPDATE workflow_execution SET last_seq = last_seq + 1 WHERE execution_id = $SUCCEEDED",
    ),
    (
        "statuses_of_an_execution_chain",
        "UPDATE workflow_transition SET from_status = 'running' \
         WHERE execution_id = $FAILED AND to_status = 'failed' AND task_id IS NULL",
    ),
    (
        "status_of_an_execution_is_logged",
        "UPDATE workflow_execution SET status = 'failing', errors = '[{}]' \
         WHERE execution_id = $RUNNING",
    ),
    (
        "statuses_of_a_run_chain",
        "UPDATE workflow_transition SET from_status = 'dispatched' \
         WHERE execution_id = $SUCCEEDED AND from_status = 'running' AND task_id IS NOT NULL",
    ),
    (
        "status_of_a_run_is_logged",
        "UPDATE workflow_task SET status = 'dispatched' \
         WHERE execution_id = $RUNNING AND status = 'running'",
    ),
    (
        "attempt_dispatched_once",
        "UPDATE workflow_transition SET attempt = 1 \
         WHERE execution_id = $SUCCEEDED AND attempt = 2 AND kind = 'task_dispatched'",
    ),
    (
        "attempt_ends_at_most_once",
        "UPDATE workflow_transition SET kind = 'task_ended', from_status = 'running' \
         WHERE execution_id = $SUCCEEDED AND kind = 'task_started'",
    ),
    (
        "attempt_entries_in_order",
        "UPDATE workflow_transition SET kind = CASE kind WHEN 'task_started' THEN \
             'task_dispatched'::transition_kind ELSE 'task_started' END \
         WHERE execution_id = $RUNNING AND task_id = (SELECT task_id FROM workflow_task \
             WHERE execution_id = $RUNNING AND status = 'running')",
    ),
    (
        "attempts_without_gap",
        "UPDATE workflow_task SET max_attempts = 1 \
         WHERE execution_id = $SUCCEEDED AND attempt = 2",
    ),
    (
        "attempts_do_not_overlap",
        "UPDATE workflow_transition SET kind = 'task_started' \
         WHERE execution_id = $SUCCEEDED AND kind = 'task_retry_scheduled'",
    ),
    (
        "attempts_of_what_has_ended_have_ended",
        "UPDATE workflow_transition SET from_status = NULL \
         WHERE execution_id = $SUCCEEDED AND kind = 'task_ended' AND from_status = 'running'",
    ),
    (
        "nothing_dispatched_after_cancel",
        "UPDATE workflow_transition SET kind = 'control_applied', task_id = NULL, \
             detail = '{\"command\": \"cancel\"}' WHERE execution_id = $SUCCEEDED AND seq = 3",
    ),
    (
        "nothing_dispatched_while_paused",
        "UPDATE workflow_transition SET kind = 'execution_status_changed', task_id = NULL, \
             to_status = 'paused' WHERE execution_id = $SUCCEEDED AND seq = 3",
    ),
    (
        "counts_are_those_of_the_runs",
        "UPDATE workflow_execution SET tasks_total = tasks_total + 1, \
             tasks_failed = tasks_failed + 1 WHERE execution_id = $FAILED",
    ),
    (
        "live_runs_are_those_without_end",
        "UPDATE workflow_execution SET live_runs[1] = 99 WHERE execution_id = $RUNNING",
    ),
    (
        "nothing_lives_after_the_end",
        "UPDATE workflow_execution SET status = 'succeeded', finished_at = now() \
         WHERE execution_id = $RUNNING",
    ),
    (
        "start_fits_the_execution",
        "UPDATE workflow_start SET workflow = 'demo.other' WHERE execution_id = $RUNNING",
    ),
    (
        "keys_are_unique",
        "DROP INDEX workflow_start_idempotency_key; \
         UPDATE workflow_start SET idempotency_key = 'key-1' WHERE execution_id = $DISPATCHED; \
         UPDATE workflow_execution SET idempotency_key = 'key-1' WHERE execution_id = $DISPATCHED",
    ),
    ("definition_exists", "DELETE FROM workflow_definition"),
    (
        "partition_exists",
        "UPDATE workflow_execution SET partition = 7 WHERE execution_id = $FAILED; \
         UPDATE workflow_start SET partition = 7 WHERE execution_id = $FAILED",
    ),
    (
        "execution_times_in_order",
        "UPDATE workflow_execution SET finished_at = created_at - interval '2 minutes' \
         WHERE execution_id = $SUCCEEDED",
    ),
    (
        "errors_fit_the_status",
        "UPDATE workflow_execution SET errors = '[]' WHERE execution_id = $FAILED",
    ),
    (
        "runs_without_gap",
        "UPDATE workflow_execution SET last_run = last_run + 1 WHERE execution_id = $RUNNING",
    ),
    (
        "task_ids_are_those_of_the_runs",
        "UPDATE workflow_task SET task_id = gen_random_uuid() \
         WHERE execution_id = $FAILED AND run = 1",
    ),
    (
        "visits_are_counted",
        "UPDATE workflow_execution SET visits[1] = 2 WHERE execution_id = $RUNNING",
    ),
    (
        "visits_without_gap",
        "UPDATE workflow_task SET visit = 2 WHERE execution_id = $RUNNING AND task = 'a'",
    ),
    (
        "causes_exist",
        "UPDATE workflow_task SET caused_by = '{99}' WHERE execution_id = $RUNNING AND task = 'a'",
    ),
    (
        "dispatched_runs_can_be_published",
        "UPDATE workflow_task SET input = NULL WHERE execution_id = $DISPATCHED",
    ),
    (
        "run_times_in_order",
        "UPDATE workflow_task SET dispatched_at = finished_at + interval '2 minutes' \
         WHERE execution_id = $SUCCEEDED AND task = 'a'",
    ),
    (
        "writes_without_gap",
        "UPDATE workflow_execution SET last_write = last_write + 1 WHERE execution_id = $RUNNING",
    ),
    (
        "replaced_writes_exist",
        "UPDATE workflow_variable SET name = 'other' \
         WHERE execution_id = $FAILED AND write_no = 1",
    ),
    (
        "published_writes_exist",
        "UPDATE workflow_transition SET detail = '{\"published\": [[\"seen\", 99]]}' \
         WHERE execution_id = $FAILED AND detail ? 'published'",
    ),
    (
        "seen_writes_exist",
        "UPDATE workflow_task SET branch = '{\"vars\": {\"seen\": 99}}' \
         WHERE execution_id = $RUNNING AND task = 'b'",
    ),
    (
        "seen_runs_have_ended",
        "UPDATE workflow_execution SET ends = jsonb_set(ends, '{last_ended}', '{\"b\": 3}') \
         WHERE execution_id = $RUNNING",
    ),
    (
        "nothing_waits_unseen",
        "UPDATE workflow_task SET status = 'waiting' WHERE execution_id = $DISPATCHED",
    ),
    (
        "a_pause_pauses",
        "UPDATE workflow_task SET held = true WHERE execution_id = $RUNNING AND task = 'c'",
    ),
    (
        "waits_have_timers",
        "DELETE FROM workflow_timer WHERE execution_id = $RUNNING AND kind = 'deadline'",
    ),
    (
        "timers_have_live_runs",
        "UPDATE workflow_timer SET run = 1 WHERE execution_id = $RUNNING AND kind = 'retry'",
    ),
    (
        "timers_fit_their_runs",
        "UPDATE workflow_timer SET kind = 'dispatch' \
         WHERE execution_id = $RUNNING AND kind = 'retry'",
    ),
    (
        "timers_are_in_their_partition",
        "UPDATE workflow_timer SET partition = 7 WHERE execution_id = $RUNNING",
    ),
    (
        "timers_are_not_overdue",
        "UPDATE workflow_timer SET due_at = now() - interval '11 minutes' \
         WHERE execution_id = $RUNNING; \
         UPDATE coordinator SET started_at = now() - interval '1 day'",
    ),
    (
        "children_have_a_parent",
        "UPDATE workflow_execution SET parent_run = 2 WHERE parent_execution_id = $PARENT",
    ),
    (
        "runs_wait_for_live_children",
        "UPDATE workflow_execution SET parent_execution_id = NULL, parent_run = NULL \
         WHERE parent_execution_id = $PARENT",
    ),
    (
        "turns_add_up",
        "ALTER TABLE coordinator_partition DROP CONSTRAINT coordinator_partition_dispatched_after_turn; \
         UPDATE coordinator_partition SET dispatched_through = last_turn + 1",
    ),
    ("leases_have_owners", "DELETE FROM coordinator"),
    (
        "partitions_are_owned",
        "UPDATE coordinator_partition SET lease_expires_at = now() - interval '2 minutes'; \
         UPDATE coordinator SET started_at = now() - interval '1 day', seen_at = now()",
    ),
    (
        "outbox_is_of_open_turns",
        "UPDATE coordinator_partition SET dispatched_through = last_turn",
    ),
    (
        "outbox_names_attempts",
        "UPDATE workflow_outbox SET attempts[1] = 2",
    ),
    (
        "dead_letters_are_resolved_as_known",
        "UPDATE workflow_dead_letter SET resolved_at = now(), resolution = 'forgotten'",
    ),
    (
        "definitions_are_what_their_hash_says",
        "UPDATE workflow_definition SET source = source || ' '",
    ),
    (
        "log_has_its_execution",
        "INSERT INTO workflow_transition (execution_id, seq, at, kind) \
         VALUES ($NOBODY, 1, now(), 'execution_started')",
    ),
    (
        "runs_have_their_execution",
        "UPDATE workflow_task SET execution_id = $NOBODY \
         WHERE execution_id = $FAILED AND run = 1",
    ),
    (
        "writes_have_their_execution",
        "INSERT INTO workflow_variable (execution_id, write_no, name, value) \
         VALUES ($NOBODY, 1, 'x', 'null')",
    ),
    (
        "timers_have_their_execution",
        "INSERT INTO workflow_timer (execution_id, run, partition, kind, due_at) \
         VALUES ($NOBODY, 1, 0, 'retry', now())",
    ),
    (
        "starts_have_their_execution",
        "INSERT INTO workflow_start (execution_id, workflow, partition) \
         VALUES ($NOBODY, 'demo.history', 0)",
    ),
    (
        "items_belong_to_their_task",
        "UPDATE workflow_task SET item_of = 1, item_index = 0 \
         WHERE execution_id = $SUCCEEDED AND run = 3",
    ),
    (
        "items_run_once",
        "UPDATE workflow_task SET item_progress = '{\"count\": 1, \"concurrency\": 9, \
             \"tolerated\": 0, \"active\": 0, \"failed\": 0}' \
         WHERE execution_id = $SUCCEEDED AND run = 1; \
         UPDATE workflow_task SET item_of = 1, item_index = 0 \
         WHERE execution_id = $SUCCEEDED AND run IN (2, 3)",
    ),
    (
        "items_are_counted",
        "UPDATE workflow_task SET item_progress = '{\"count\": 0, \"concurrency\": 9, \
             \"tolerated\": 0, \"active\": 1, \"failed\": 0}' \
         WHERE execution_id = $SUCCEEDED AND run = 1",
    ),
    (
        "success_has_all_items",
        "UPDATE workflow_task SET item_progress = '{\"count\": 2, \"concurrency\": 9, \
             \"tolerated\": 0, \"active\": 0, \"failed\": 0}' \
         WHERE execution_id = $SUCCEEDED AND run = 1",
    ),
];
