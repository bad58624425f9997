//! What a commit writes, keeps and refuses.

use flotilla_coordinator::storage;
use flotilla_engine::execution::TimerKind;
use flotilla_turn::rows::{CommitAnswer, IgnoredRow, OutboxJob, TaskRow, TimerRow};
use sqlx::{PgConnection, PgPool};

use crate::support::{
    at, committed, count, id, json, new_execution, ready, start, start_turn, state, succeeded,
    task, task_id, transition, turn,
};

type TaskColumns = (Option<String>, Option<String>, Option<String>, String);

async fn task_columns(conn: &mut PgConnection) -> TaskColumns {
    sqlx::query_as("SELECT input::text, result::text, error::text, branch::text FROM workflow_task")
        .fetch_one(conn)
        .await
        .expect("the task is there")
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[sqlx::test(migrations = false)]
async fn an_update_keeps_what_is_not_given(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut first = start_turn(1, id(1));
    first.new_executions[0].state.errors = Some(json(r#"[{"kind": "x"}]"#));
    first.new_executions[0].reply_to = json(r#"[{"reply_to": "q"}]"#);
    committed(&mut conn, &first).await;
    let mut second = turn(2, &[0]);
    second.executions.push(state(id(1), &[1]));
    second.tasks.push(TaskRow {
        input: None,
        branch: None,
        starts: 1,
        ..task(id(1), 1)
    });
    committed(&mut conn, &second).await;
    let (input, result, error, branch) = task_columns(&mut conn).await;
    assert_eq!(input, text(r#"{"text": "hello"}"#));
    assert_eq!((result, error, branch.as_str()), (None, None, "{}"));
    let kept: (String, String) =
        sqlx::query_as("SELECT errors::text, reply_to::text FROM workflow_execution")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(kept.0, r#"[{"kind": "x"}]"#);
    assert_eq!(kept.1, r#"[{"reply_to": "q"}]"#);
}

#[sqlx::test(migrations = false)]
async fn an_error_does_not_outlive_the_next_end_of_an_attempt(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let mut failed = turn(2, &[0]);
    failed.tasks.push(TaskRow {
        status: "retrying",
        result: Some(json("[1]")),
        error: Some(json(r#"{"kind": "task_failed"}"#)),
        ..task(id(1), 1)
    });
    committed(&mut conn, &failed).await;
    let (_, result, error, _) = task_columns(&mut conn).await;
    assert_eq!(result, text("[1]"));
    assert_eq!(error, text(r#"{"kind": "task_failed"}"#));

    let mut again = turn(3, &[0]);
    again.tasks.push(TaskRow {
        attempt: 2,
        ..task(id(1), 1)
    });
    committed(&mut conn, &again).await;
    assert_eq!(
        task_columns(&mut conn).await.1,
        text("[1]"),
        "until then it stands"
    );

    let mut ended = turn(4, &[0]);
    ended.tasks.push(TaskRow {
        result: None,
        ..succeeded(id(1), 1)
    });
    committed(&mut conn, &ended).await;
    let (_, result, error, _) = task_columns(&mut conn).await;
    assert_eq!((result, error), (None, None));
}

#[sqlx::test(migrations = false)]
async fn a_result_that_is_null_is_a_result(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let mut ended = turn(2, &[0]);
    ended.tasks.push(TaskRow {
        result: Some(json("null")),
        ..succeeded(id(1), 1)
    });
    committed(&mut conn, &ended).await;
    assert_eq!(task_columns(&mut conn).await.1, text("null"));
}

#[sqlx::test(migrations = false)]
async fn a_value_stays_with_its_row_where_rows_beside_it_have_none(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut commit = turn(1, &[0]);
    for (number, (key, worker)) in [(None, None), (Some("key"), None), (None, Some("w"))]
        .into_iter()
        .enumerate()
    {
        let execution = id(number as u128 + 1);
        commit.starts.push(start(execution, key));
        commit.new_executions.push(new_execution(execution));
        commit.new_tasks.push(TaskRow {
            worker: worker.map(str::to_owned),
            ..task(execution, 1)
        });
        commit.transitions.push(transition(execution, 1));
    }
    committed(&mut conn, &commit).await;
    let rows: Vec<(Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT s.idempotency_key, t.worker
         FROM workflow_start AS s JOIN workflow_task AS t USING (execution_id)
         ORDER BY execution_id",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(rows, [(None, None), (text("key"), None), (None, text("w"))]);
}

#[sqlx::test(migrations = false)]
async fn a_start_that_exists_stops_the_turn(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut first = start_turn(1, id(1));
    first.starts[0] = start(id(1), Some("key"));
    committed(&mut conn, &first).await;

    let mut same_key = start_turn(2, id(2));
    same_key.starts[0] = start(id(2), Some("key"));
    assert_eq!(
        storage::commit(&mut conn, &same_key).await,
        CommitAnswer::StartExists { execution_id: None }
    );
    let same_id = start_turn(2, id(1));
    assert_eq!(
        storage::commit(&mut conn, &same_id).await,
        CommitAnswer::StartExists {
            execution_id: Some(id(1))
        }
    );
    // Starts without a key do not meet.
    committed(&mut conn, &start_turn(2, id(3))).await;
}

/// Lets the tables raise an error, as a server does that has trouble of its own.
async fn plant(conn: &mut PgConnection, code: &str) {
    let statements = format!(
        "CREATE OR REPLACE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'; END $$;
         CREATE OR REPLACE TRIGGER trouble BEFORE INSERT ON workflow_execution
         FOR EACH ROW EXECUTE FUNCTION trouble()"
    );
    let planted = sqlx::raw_sql(sqlx::AssertSqlSafe(statements));
    planted.execute(conn).await.expect("it can be planted");
}

#[sqlx::test(migrations = false)]
async fn what_may_pass_is_sent_again_and_what_cannot_is_refused(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let commit = start_turn(1, id(1));
    for code in [
        "40001", "40P01", "55P03", "57014", "25006", "57P01", "57P03", "53100", "53200", "53300",
        "08006", "58030", "28000", "3D000", "42883", "42501", "0A000",
    ] {
        plant(&mut conn, code).await;
        let answer = storage::commit(&mut conn, &commit).await;
        let CommitAnswer::TryAgain { error } = &answer else {
            panic!("{code}: {answer:?}");
        };
        assert!(error.starts_with(code), "{error}");
    }
    for code in ["22003", "22P02", "23502", "23505", "23514", "P0001"] {
        plant(&mut conn, code).await;
        let answer = storage::commit(&mut conn, &commit).await;
        let CommitAnswer::Refused { error } = &answer else {
            panic!("{code}: {answer:?}");
        };
        assert!(error.starts_with(code), "{error}");
    }
    let healed = sqlx::raw_sql("DROP TRIGGER trouble ON workflow_execution");
    healed.execute(&mut conn).await.unwrap();
    committed(&mut conn, &commit).await;
}

async fn refused(conn: &mut PgConnection, commit: &flotilla_turn::rows::Commit, part: &str) {
    let answer = storage::commit(conn, commit).await;
    let CommitAnswer::Refused { error } = &answer else {
        panic!("not refused: {answer:?}");
    };
    assert!(error.contains(part), "{error}");
}

#[sqlx::test(migrations = false)]
async fn what_postgres_cannot_hold_is_refused(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut zero = start_turn(1, id(1));
    zero.new_tasks[0].input = Some(json(r#"{"text": "a\u0000b"}"#));
    refused(&mut conn, &zero, "22P05").await;
    let mut number = start_turn(1, id(1));
    number.new_tasks[0].input = Some(json(r#"{"n": 1e999999}"#));
    refused(&mut conn, &number, "22003").await;
    // The connection is as good as before.
    committed(&mut conn, &start_turn(1, id(1))).await;
}

#[sqlx::test(migrations = false)]
async fn a_change_to_a_row_that_is_not_there_is_refused(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let mut task_missing = turn(2, &[0]);
    task_missing.tasks = vec![task(id(1), 1), task(id(1), 2)];
    refused(&mut conn, &task_missing, "FL002").await;
    let mut execution_missing = turn(2, &[0]);
    execution_missing.executions.push(state(id(2), &[]));
    refused(&mut conn, &execution_missing, "FL002").await;
    let mut twice = turn(2, &[0]);
    twice.tasks = vec![task(id(1), 1), task(id(1), 1)];
    refused(&mut conn, &twice, "FL002").await;
}

#[sqlx::test(migrations = false)]
async fn a_second_entry_of_one_number_is_refused(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let mut again = turn(2, &[0]);
    again.transitions.push(transition(id(1), 1));
    refused(&mut conn, &again, "23505").await;
}

#[sqlx::test(migrations = false)]
async fn rows_that_contradict_themselves_are_refused(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut counts = start_turn(1, id(1));
    counts.new_executions[0].state.counts.succeeded = 1;
    refused(&mut conn, &counts, "counts_add_up").await;
    let mut finished = start_turn(1, id(1));
    finished.new_tasks[0].finished_at = Some(at(1));
    refused(&mut conn, &finished, "finished_iff_final").await;
}

#[sqlx::test(migrations = false)]
async fn a_database_that_is_not_migrated_takes_nothing_but_loses_nothing(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap().detach();
    let answer = storage::commit(&mut conn, &turn(1, &[0])).await;
    assert!(
        matches!(answer, CommitAnswer::TryAgain { .. }),
        "{answer:?}"
    );
}

#[sqlx::test(migrations = false)]
async fn a_closed_connection_is_tried_again(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(pid)
        .execute(&pool)
        .await
        .unwrap();
    let answer = storage::commit(&mut conn, &turn(1, &[0])).await;
    assert!(
        matches!(answer, CommitAnswer::TryAgain { .. }),
        "{answer:?}"
    );
}

#[sqlx::test(migrations = false)]
async fn timers_are_set_replaced_and_cleared(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let timer = |run, kind, due| TimerRow {
        execution_id: id(1),
        run,
        partition: 2,
        kind,
        due_at: at(due),
    };
    let mut set = turn(1, &[2]);
    set.timers_set = vec![
        timer(1, TimerKind::Deadline, 10),
        timer(2, TimerKind::Retry, 20),
    ];
    committed(&mut conn, &set).await;
    let mut change = turn(2, &[2]);
    change.timers_cleared = vec![(id(1), 1), (id(1), 7)];
    change.timers_set = vec![
        timer(2, TimerKind::Dispatch, 5),
        timer(3, TimerKind::Retry, 5),
    ];
    committed(&mut conn, &change).await;
    let due = storage::load_timers(&mut conn, 2, at(0), at(100))
        .await
        .unwrap();
    assert_eq!(
        due,
        [
            timer(2, TimerKind::Dispatch, 5),
            timer(3, TimerKind::Retry, 5)
        ]
    );
    // Cleared and set in one turn: it is set.
    let mut both = turn(3, &[2]);
    both.timers_cleared = vec![(id(1), 3)];
    both.timers_set = vec![timer(3, TimerKind::Deadline, 50)];
    committed(&mut conn, &both).await;
    let due = storage::load_timers(&mut conn, 2, at(50), at(51))
        .await
        .unwrap();
    assert_eq!(due, [timer(3, TimerKind::Deadline, 50)]);
    let none = storage::load_timers(&mut conn, 2, at(49), at(50))
        .await
        .unwrap();
    assert_eq!(none, []);
}

#[sqlx::test(migrations = false)]
async fn the_watermark_removes_what_is_dispatched(pool: PgPool) {
    let mut conn = ready(&pool).await;
    for number in 1..=4 {
        let mut commit = turn(number, &[0, 1]);
        commit.jobs = [0, 1]
            .map(|partition| OutboxJob {
                partition,
                turn: number,
                execution_id: id(1),
                run: 1,
                attempt: 1,
            })
            .to_vec();
        committed(&mut conn, &commit).await;
    }
    let mut commit = turn(5, &[0, 1]);
    commit.partitions[0].dispatched_through = 3;
    committed(&mut conn, &commit).await;
    // A watermark never goes back.
    committed(&mut conn, &turn(6, &[0, 1])).await;
    let left: Vec<(i32, i64)> =
        sqlx::query_as("SELECT partition, turn FROM workflow_outbox ORDER BY partition, turn")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    assert_eq!(left, [(0, 4), (1, 1), (1, 2), (1, 3), (1, 4)]);
    let through: i64 =
        sqlx::query_scalar("SELECT dispatched_through FROM coordinator_partition WHERE id = 0")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(through, 3);
}

#[sqlx::test(migrations = false)]
async fn ignored_messages_are_kept_up_to_a_bound(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let ignored = IgnoredRow {
        queue: "flotilla.inbox.0".to_owned(),
        message_type: "task.completed",
        execution_id: id(1),
        task_id: Some(task_id(id(1), 1)),
        attempt: Some(2),
        worker: Some("w-1".to_owned()),
        reason: "stale_attempt",
    };
    let mut commit = turn(1, &[0]);
    commit.ignored = vec![ignored.clone()];
    committed(&mut conn, &commit).await;
    let row: (String, String, Option<i32>, Option<String>, String) = sqlx::query_as(
        "SELECT queue, message_type, attempt, worker, reason::text FROM workflow_ignored_message",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(row.0, "flotilla.inbox.0");
    assert_eq!(row.1, "task.completed");
    assert_eq!(
        (row.2, row.3.as_deref(), row.4.as_str()),
        (Some(2), Some("w-1"), "stale_attempt")
    );

    sqlx::query(
        "INSERT INTO workflow_ignored_message (queue, message_type, execution_id, reason) \
         SELECT 'q', 't', gen_random_uuid(), 'unknown_task' FROM generate_series(1, 104000)",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let mut commit = turn(2, &[0]);
    commit.ignored = vec![ignored; 1000];
    committed(&mut conn, &commit).await;
    assert_eq!(count(&mut conn, "workflow_ignored_message").await, 100_000);
}
