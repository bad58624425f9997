//! The schema's promises: comments, columns, partitions, and the cost of updates.

use flotilla_coordinator::storage::{self, Migrated, StorageError};
use sqlx::{Connection, PgPool};

use crate::support::{committed, id, ready, start_turn, state, succeeded, task, turn};

#[sqlx::test(migrations = false)]
async fn two_migrations_at_once_are_one(pool: PgPool) {
    let (one, two) = tokio::join!(storage::migrate(&pool, None), storage::migrate(&pool, None));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.partitions, 16);
    assert_eq!((two.version, two.partitions), (one.version, one.partitions));
    assert!(one.applied.is_empty() || two.applied.is_empty());
    let applied = one.applied.iter().chain(&two.applied);
    assert_eq!(applied.max(), Some(&one.version));
}

#[sqlx::test(migrations = false)]
async fn partitions_are_added_and_never_removed(pool: PgPool) {
    let first = storage::migrate(&pool, Some(4)).await.unwrap();
    assert_eq!(first.partitions, 4);
    let again = storage::migrate(&pool, None).await.unwrap();
    assert_eq!(
        again,
        Migrated {
            applied: Vec::new(),
            ..first
        }
    );
    assert_eq!(
        storage::migrate(&pool, Some(6)).await.unwrap().partitions,
        6
    );
    let fewer = storage::migrate(&pool, Some(5)).await;
    assert!(matches!(
        fewer,
        Err(StorageError::FewerPartitions {
            present: 6,
            asked: 5
        })
    ));
}

#[sqlx::test(migrations = false)]
async fn everything_has_a_comment(pool: PgPool) {
    storage::migrate(&pool, None).await.unwrap();
    let silent: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || coalesce('.' || a.attname, '') \
         FROM pg_class AS c \
         CROSS JOIN LATERAL ( \
             SELECT 0 AS attnum, NULL AS attname \
             UNION ALL \
             SELECT attnum, attname FROM pg_attribute \
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped \
         ) AS a \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'p') \
             AND c.relname <> '_sqlx_migrations' \
             AND coalesce(col_description(c.oid, a.attnum), '') = '' \
             AND NOT (a.attnum = 0 AND obj_description(c.oid, 'pg_class') <> '') \
         UNION ALL \
         SELECT t.typname FROM pg_type AS t \
         WHERE t.typnamespace = 'public'::regnamespace AND t.typtype = 'e' \
             AND obj_description(t.oid, 'pg_type') IS NULL",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(silent, Vec::<String>::new());
}

async fn columns(pool: &PgPool, relation: &str) -> String {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute \
         WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )
    .bind(relation)
    .fetch_all(pool)
    .await
    .expect("the relation is there");
    names.join(", ")
}

#[sqlx::test(migrations = false)]
async fn public_columns_are_as_promised(pool: PgPool) {
    storage::migrate(&pool, None).await.unwrap();
    let promises = [
        (
            "workflow_execution_summary",
            "execution_id, workflow, version, status, parent_execution_id, idempotency_key, tags, \
             partition, parameters, variables, output, errors, created_at, started_at, \
             finished_at, duration_s, tasks_total, tasks_active, tasks_succeeded, tasks_failed, \
             tasks_timed_out, tasks_cancelled, tasks_skipped, tasks_omitted, attempts_total, \
             last_seq",
        ),
        (
            "workflow_task_detail",
            "execution_id, task_id, task, visit, item_index, batch_size, status, attempt, \
             max_attempts, action, pool, worker, input, result, error_kind, error_message, error, \
             caused_by, created_at, dispatched_at, started_at, finished_at",
        ),
        (
            "workflow_transition",
            "execution_id, seq, at, kind, task_id, attempt, from_status, to_status, detail",
        ),
        (
            "workflow_ignored_message",
            "id, received_at, queue, message_type, execution_id, task_id, attempt, worker, reason",
        ),
        (
            "workflow_task_log",
            "execution_id, task_id, attempt, line_no, at, stream, text",
        ),
        (
            "coordinator",
            "id, name, pid, version, started_at, seen_at, stopped_at",
        ),
    ];
    for (relation, promise) in promises {
        assert_eq!(columns(&pool, relation).await, promise, "{relation}");
    }
    let partition = columns(&pool, "coordinator_partition").await;
    assert!(partition.starts_with("id, owner, epoch, lease_expires_at, "));
    let letter = columns(&pool, "workflow_dead_letter").await;
    for name in [
        "id",
        "received_at",
        "queue",
        "reason",
        "message_id",
        "execution_id",
        "task_id",
        "properties",
        "body",
        "resolved_at",
        "resolution",
    ] {
        assert!(letter.split(", ").any(|column| column == name), "{name}");
    }
}

#[sqlx::test(migrations = false)]
async fn words_are_as_promised(pool: PgPool) {
    storage::migrate(&pool, None).await.unwrap();
    let promises = [
        (
            "execution_status",
            "running, pausing, paused, cancelling, failing, succeeded, failed, cancelled, timed_out",
        ),
        (
            "task_status",
            "waiting, delayed, dispatched, running, retrying, succeeded, failed, timed_out, \
             cancelled, skipped, omitted",
        ),
        (
            "transition_kind",
            "execution_started, task_dispatched, task_started, task_ended, \
             task_retry_scheduled, join_arrived, control_applied, execution_status_changed, job_resent",
        ),
        (
            "ignored_reason",
            "unknown_execution, unknown_task, stale_attempt, already_completed, execution_finished",
        ),
    ];
    for (name, promise) in promises {
        let words: String = sqlx::query_scalar(
            "SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) \
             FROM pg_enum WHERE enumtypid = $1::text::regtype",
        )
        .bind(name)
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(words, promise, "{name}");
    }
}

/// Each row is written and updated once, which is what most rows see in their life.
#[sqlx::test(migrations = false)]
async fn updates_stay_on_their_page(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let runs: Vec<u32> = (1..=100).collect();
    for number in 0..100_u32 {
        let execution = id(u128::from(number));
        let mut first = start_turn(i64::from(2 * number + 1), execution);
        first.new_executions[0].state = state(execution, &runs);
        first.new_tasks = runs.iter().map(|run| task(execution, *run)).collect();
        committed(&mut conn, &first).await;
        let mut second = turn(i64::from(2 * number + 2), &[0]);
        second.executions.push(state(execution, &runs));
        second.tasks = runs.iter().map(|run| succeeded(execution, *run)).collect();
        committed(&mut conn, &second).await;
    }
    // The session reports its numbers when it ends.
    conn.close().await.unwrap();
    for (table, rows) in [("workflow_task", 10_000), ("workflow_execution", 100)] {
        let hot = loop {
            let (updates, hot): (i64, i64) = sqlx::query_as(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1",
            )
            .bind(table)
            .fetch_one(&pool)
            .await
            .unwrap();
            if updates >= rows {
                break hot;
            }
            tokio::task::yield_now().await;
        };
        assert!(hot * 100 >= rows * 90, "{table}: {hot} of {rows}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_server_that_can_lose_commits_is_refused(pool: PgPool) {
    let database: String = sqlx::query_scalar("SELECT quote_ident(current_database())")
        .fetch_one(&pool)
        .await
        .unwrap();
    let url = std::env::var("DATABASE_URL").unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    let url = format!("{server}/{}", database.trim_matches('"'));
    storage::connect(&url).await.unwrap();
    let mut conn = storage::connect_one(&url).await.unwrap();
    let setting: String = sqlx::query_scalar(
        "SELECT current_setting('statement_timeout') || current_setting('application_name')",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(setting, "10sflotilla");
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "ALTER DATABASE {database} SET synchronous_commit = off"
    )))
    .execute(&mut conn)
    .await
    .unwrap();
    let refused = storage::connect(&url).await;
    assert!(matches!(refused, Err(StorageError::SynchronousCommitOff)));
}
