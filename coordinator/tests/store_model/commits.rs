//! What a commit writes, keeps and refuses.

use chrono::TimeDelta;
use flotilla_engine::execution::TimerKind;
use flotilla_turn::rows::{Commit, IgnoredRow, TaskRow, TimerRow};
use sqlx::PgPool;

use crate::answer::Outcome;
use crate::database::with_partitions;
use crate::rows::{
    add_start, at, id, json, new_execution, start_turn, state, succeeded, task, task_id, timer,
    transition, turn, variable,
};

fn refused(sqlstate: &str) -> Outcome {
    Outcome::Refused(sqlstate.to_owned())
}

#[sqlx::test(migrations = false)]
async fn a_start_exists_by_its_id_or_by_its_key(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        let mut commit = start_turn(1, id(1));
        commit.starts[0].idempotency_key = Some("key".to_owned());
        database.committed(&commit).await;
        database
            .unwritten(&start_turn(2, id(1)), Outcome::StartExists(Some(id(1))))
            .await;
        let mut same_key = turn(2, &[0, 1]);
        same_key.partitions[1].turn = 1;
        add_start(&mut same_key, id(2), 0);
        add_start(&mut same_key, id(3), 1);
        same_key.starts[1].idempotency_key = Some("key".to_owned());
        database
            .unwritten(&same_key, Outcome::StartExists(None))
            .await;
        same_key.starts[1].idempotency_key = Some("another".to_owned());
        database.committed(&same_key).await;
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_start_that_a_turn_names_twice_exists(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let mut commit = turn(1, &[0]);
        add_start(&mut commit, id(1), 0);
        add_start(&mut commit, id(2), 0);
        for start in &mut commit.starts {
            start.idempotency_key = Some("key".to_owned());
        }
        database
            .unwritten(&commit, Outcome::StartExists(None))
            .await;
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_change_of_a_row_that_is_not_there_is_refused(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        database.committed(&start_turn(1, id(1))).await;
        let mut commit = start_turn(2, id(2));
        commit.executions = vec![state(id(1), &[1]), state(id(9), &[])];
        database.unwritten(&commit, refused("FL002")).await;
        let mut commit = start_turn(2, id(2));
        commit.tasks = vec![succeeded(id(1), 1), succeeded(id(1), 2)];
        database.unwritten(&commit, refused("FL002")).await;
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_row_that_is_there_is_not_written_anew(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let mut first = start_turn(1, id(1));
        first.variables.push(variable(id(1), 1, "x", None));
        database.committed(&first).await;
        let changes: [fn(&mut Commit); 4] = [
            |commit| commit.new_executions.push(new_execution(id(1))),
            |commit| commit.new_tasks.push(task(id(1), 1)),
            |commit| commit.variables.push(variable(id(1), 1, "y", None)),
            |commit| commit.transitions.push(transition(id(1), 1)),
        ];
        for change in changes {
            let mut commit = start_turn(2, id(2));
            change(&mut commit);
            database.unwritten(&commit, refused("23505")).await;
        }
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_result_that_cannot_be_stored_is_refused_before_anything_else(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        database.committed(&start_turn(1, id(1))).await;
        let mut commit = turn(2, &[0]);
        commit.tasks.push(TaskRow {
            // The model goes by the word, Postgres by the character.
            result: Some(json(r#""unstorable \u0000""#)),
            ..succeeded(id(1), 1)
        });
        database.unwritten(&commit, refused("22P05")).await;
        commit.partitions[0].epoch = 9;
        database.unwritten(&commit, refused("22P05")).await;
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn an_update_keeps_what_is_not_given(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let mut first = start_turn(1, id(1));
        first.new_executions[0].state.errors = Some(json(r#"[{"kind": "x"}]"#));
        first.new_executions[0].state.output = Some(json("7"));
        first.new_tasks[0].branch = Some(json(r#"{"passed": {"2": 4}}"#));
        database.committed(&first).await;
        let mut second = turn(2, &[0]);
        second.executions.push(state(id(1), &[1]));
        second.tasks.push(TaskRow {
            input: None,
            branch: None,
            starts: 1,
            ..task(id(1), 1)
        });
        database.committed(&second).await;
        let loaded = database.load_execution(id(1)).await;
        assert_eq!(loaded.row.errors, json(r#"[{"kind":"x"}]"#));
        assert_eq!(loaded.row.output, Some(json("7")));
        assert_eq!(loaded.row.reply_to, json(r#"[{"reply_to":"q"}]"#));
        let run = &loaded.tasks[0];
        assert_eq!(run.input, Some(json(r#"{"text":"hello"}"#)));
        assert_eq!(run.branch, json(r#"{"passed":{"2":4}}"#));
        assert_eq!(run.starts, 1);

        let mut third = turn(3, &[0]);
        let mut changed = state(id(1), &[1]);
        changed.errors = Some(json("[]"));
        changed.reply_to = Some(json("[]"));
        third.executions.push(changed);
        database.committed(&third).await;
        let row = database.load_execution(id(1)).await.row;
        assert_eq!((row.errors, row.reply_to), (json("[]"), json("[]")));
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn what_an_attempt_left_is_replaced_as_a_whole(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        database.committed(&start_turn(1, id(1))).await;
        let error = json(r#"{"kind":"task_failed"}"#);
        let ends: [(Option<&str>, Option<&str>); 5] = [
            (Some("[1]"), Some(r#"{"kind":"task_failed"}"#)),
            (None, None),
            (None, Some("null")),
            (Some("[2]"), None),
            (Some("null"), Some("null")),
        ];
        let expected = [
            (Some(json("[1]")), Some(error.clone())),
            (Some(json("[1]")), Some(error)),
            (None, None),
            (Some(json("[2]")), None),
            (Some(json("null")), None),
        ];
        for (number, ((result, error), expected)) in (2..).zip(ends.into_iter().zip(expected)) {
            let mut commit = turn(number, &[0]);
            commit.tasks.push(TaskRow {
                status: "retrying",
                result: result.map(json),
                error: error.map(json),
                ..task(id(1), 1)
            });
            database.committed(&commit).await;
            let run = database.load_execution(id(1)).await.tasks.remove(0);
            assert_eq!((run.result, run.error), expected, "turn {number}");
        }
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn timers_are_set_replaced_and_cleared(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let (now, second) = (database.now(), TimeDelta::seconds(1));
        let mut commit = turn(1, &[0]);
        commit.timers_set = (1..=4).map(|run| timer(id(1), run, now)).collect();
        database.committed(&commit).await;
        let mut commit = turn(2, &[0]);
        let replaced = TimerRow {
            kind: TimerKind::Retry,
            ..timer(id(1), 1, now + second)
        };
        let again = timer(id(1), 2, now - second);
        commit.timers_set = vec![replaced, again];
        // Clearing comes first; what is not there is cleared already.
        commit.timers_cleared = vec![(id(1), 2), (id(1), 3), (id(1), 9)];
        database.committed(&commit).await;
        database.pass(10_000).await;
        let (taken, _) = database.take(crate::rows::ME).await;
        assert_eq!(taken[0].timers, [again, timer(id(1), 4, now), replaced]);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn messages_that_were_ignored_are_recorded_with_the_turn(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let row = IgnoredRow {
            queue: "flotilla.inbox.0".to_owned(),
            message_type: "task.completed",
            execution_id: id(1),
            task_id: Some(task_id(id(1), 1)),
            attempt: Some(1),
            worker: Some("w-1".to_owned()),
            reason: "already_completed",
        };
        let bare = IgnoredRow {
            task_id: None,
            attempt: None,
            worker: None,
            reason: "unknown_execution",
            ..row.clone()
        };
        let mut commit = turn(1, &[0]);
        commit.ignored = vec![row.clone(), row, bare];
        database.committed(&commit).await;
        let again = Outcome::Committed(database.now());
        database.unwritten(&commit, again).await;
        let rows = &database.tables().await["workflow_ignored_message"];
        assert_eq!(rows.len(), 3);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn an_execution_ends_with_all_that_is_written_at_its_end(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        database.committed(&start_turn(1, id(1))).await;
        let mut commit = turn(2, &[0]);
        let mut ended = state(id(1), &[]);
        ended.status = "succeeded";
        ended.counts.total = 1;
        ended.counts.succeeded = 1;
        ended.output = Some(json(r#"{"b": 2, "a": 1}"#));
        ended.finished_at = Some(at(2));
        commit.executions.push(ended);
        commit.tasks.push(succeeded(id(1), 1));
        database.committed(&commit).await;
        let loaded = database.load_execution(id(1)).await;
        assert_eq!(loaded.row.status, "succeeded");
        assert_eq!(loaded.row.output, Some(json(r#"{"a":1,"b":2}"#)));
        assert_eq!(loaded.tasks, []);
    })
    .await;
}
