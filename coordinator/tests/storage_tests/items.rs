//! What items have left is read as far as a list of results can hold it.

use flotilla_coordinator::storage;
use flotilla_turn::rows::TaskRow;
use sqlx::PgPool;

use crate::support::{at, committed, id, json, ready, start_turn, succeeded};

const MEBIBYTE: usize = 1024 * 1024;

/// A text that takes as much room stored as it does read.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'0' + u8::try_from((state >> 33) % 64).expect("it is small"))
    };
    let plain = std::iter::repeat_with(&mut next).filter(|sign| *sign != '\\');
    plain.take(bytes).collect()
}

fn whole(status: &'static str, progress: &str) -> TaskRow {
    TaskRow {
        status,
        items: Some(json("[1, 2, 3]")),
        item_progress: Some(json(&format!(
            r#"{{"count": 30, "concurrency": 30, "tolerated": 0, "next": 30, "active": 1, {progress}}}"#
        ))),
        finished_at: (status != "running").then(|| at(5)),
        ..succeeded(id(1), 1)
    }
}

fn item(index: u32, result: &str) -> TaskRow {
    TaskRow {
        item_of: Some(1),
        item_index: Some(index),
        result: Some(json(result)),
        ..succeeded(id(1), index + 2)
    }
}

#[sqlx::test(migrations = false)]
async fn of_items_that_left_more_than_a_list_may_hold_no_results_are_read(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let large = format!("\"{}\"", noise(MEBIBYTE - 100));
    let mut commit = start_turn(1, id(1));
    commit.new_tasks = vec![whole("running", r#""failed": 0, "keeps_results": true"#)];
    let few = (0..7).map(|index| item(index, &large));
    commit.new_tasks.extend(few);
    committed(&mut conn, &commit).await;
    let found = storage::load_executions(&mut conn, &[id(1)]).await.unwrap();
    assert!(found[0].too_large.is_empty());
    assert_eq!(found[0].item_ends.len(), 7);
    assert!(found[0].item_ends.iter().all(|end| end.result.is_some()));

    let mut more = crate::support::turn(2, &[0]);
    more.new_tasks = (7..12).map(|index| item(index, &large)).collect();
    committed(&mut conn, &more).await;
    let found = storage::load_executions(&mut conn, &[id(1)]).await.unwrap();
    assert_eq!(found[0].too_large, [1]);
    assert_eq!(found[0].item_ends.len(), 12);
    assert!(found[0].item_ends.iter().all(|end| end.result.is_none()));
}

#[sqlx::test(migrations = false)]
async fn a_rerun_reads_no_results_that_a_list_could_not_hold(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let large = format!("\"{}\"", noise(MEBIBYTE - 100));
    let mut commit = start_turn(1, id(1));
    commit.new_tasks = vec![whole("failed", r#""failed": 1, "keeps_results": true"#)];
    commit
        .new_tasks
        .extend((0..12).map(|index| item(index, &large)));
    committed(&mut conn, &commit).await;
    let past = storage::load_pasts(&mut conn, &[id(1)]).await.unwrap();
    assert_eq!(past[0].too_large, [1]);
    let items = past[0].tasks.iter().filter(|task| task.item_of.is_some());
    assert_eq!(items.clone().count(), 12);
    assert!(items.clone().all(|task| task.result.is_none()));
}

#[sqlx::test(migrations = false)]
async fn items_whose_results_nobody_reads_are_not_looked_at_unless_one_has_failed(pool: PgPool) {
    let mut conn = ready(&pool).await;
    for (turn, failed) in [(1_i64, 0), (2, 1)] {
        let execution = id(u128::from(turn.unsigned_abs()));
        let mut commit = crate::support::turn(turn, &[0]);
        commit.starts = start_turn(turn, execution).starts;
        commit.new_executions = start_turn(turn, execution).new_executions;
        let progress = format!(r#""failed": {failed}, "keeps_results": false"#);
        let failed = TaskRow {
            status: "failed",
            error: Some(json("{}")),
            ..item(0, "1")
        };
        commit.new_tasks = vec![whole("running", &progress), failed];
        for task in &mut commit.new_tasks {
            task.execution_id = execution;
            task.task_id = crate::support::task_id(execution, task.run);
        }
        committed(&mut conn, &commit).await;
        let found = storage::load_executions(&mut conn, &[execution])
            .await
            .unwrap();
        let expected = usize::from(turn == 2);
        assert_eq!(found[0].item_ends.len(), expected, "by its progress");
    }
}
