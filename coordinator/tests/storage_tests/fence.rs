//! The fence: who may commit, and what becomes of those who may not.

use flotilla_coordinator::storage;
use flotilla_turn::rows::{CommitAnswer, PartitionTurn};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{committed, count, id, ready, start_turn, turn};

#[sqlx::test(migrations = false)]
async fn a_commit_moves_each_partition_by_one_turn(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &turn(1, &[0, 3])).await;
    committed(&mut conn, &turn(2, &[0, 3])).await;
    let turns: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT id, last_turn FROM coordinator_partition WHERE last_turn > 0 ORDER BY id",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(turns, [(0, 2), (3, 2)]);
}

#[sqlx::test(migrations = false)]
async fn a_commit_renews_the_leases_and_tells_the_time(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut commit = turn(1, &[5]);
    commit.lease_s = 1000.0;
    let CommitAnswer::Committed { now } = storage::commit(&mut conn, &commit).await else {
        panic!("not committed");
    };
    let left: f64 = sqlx::query_scalar(
        "SELECT extract(EPOCH FROM lease_expires_at - $1)::double precision \
         FROM coordinator_partition WHERE id = 5",
    )
    .bind(now)
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert!((995.0..=1000.0).contains(&left), "{left}");
}

#[sqlx::test(migrations = false)]
async fn the_same_commit_sent_again_is_committed_once(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let commit = start_turn(1, id(1));
    committed(&mut conn, &commit).await;
    committed(&mut conn, &commit).await;
    assert_eq!(count(&mut conn, "workflow_transition").await, 1);
}

#[sqlx::test(migrations = false)]
async fn another_commit_of_the_same_turn_is_fenced(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &turn(1, &[0])).await;
    let mut other = turn(1, &[0]);
    other.turn_id = Uuid::from_u128(99);
    let answer = storage::commit(&mut conn, &other).await;
    assert_eq!(answer, CommitAnswer::Fenced { lost: vec![0] });
}

#[sqlx::test(migrations = false)]
async fn a_commit_of_another_epoch_or_of_a_later_turn_is_fenced(pool: PgPool) {
    let mut conn = ready(&pool).await;
    for (epoch, number) in [(0, 1), (2, 1), (1, 2)] {
        let mut commit = turn(number, &[4]);
        commit.partitions[0].epoch = epoch;
        let answer = storage::commit(&mut conn, &commit).await;
        assert_eq!(answer, CommitAnswer::Fenced { lost: vec![4] });
    }
}

#[sqlx::test(migrations = false)]
async fn a_partition_that_does_not_exist_is_lost(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let answer = storage::commit(&mut conn, &turn(1, &[0, 99])).await;
    assert_eq!(answer, CommitAnswer::Fenced { lost: vec![99] });
}

#[sqlx::test(migrations = false)]
async fn where_one_partition_is_lost_nothing_is_written(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut commit = start_turn(1, id(1));
    for (partition, epoch) in [(1, 7), (2, 1), (3, 7)] {
        commit.partitions.push(PartitionTurn {
            partition,
            epoch,
            turn: 1,
            dispatched_through: 0,
        });
    }
    let answer = storage::commit(&mut conn, &commit).await;
    assert_eq!(answer, CommitAnswer::Fenced { lost: vec![1, 3] });
    for table in ["workflow_start", "workflow_execution", "workflow_task"] {
        assert_eq!(count(&mut conn, table).await, 0, "{table}");
    }
    let moved = "coordinator_partition WHERE last_turn > 0";
    assert_eq!(count(&mut conn, moved).await, 0);
}

#[sqlx::test(migrations = false)]
async fn a_commit_that_was_written_is_known_where_one_partition_was_lost_since(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let commit = turn(1, &[0, 1]);
    committed(&mut conn, &commit).await;
    sqlx::query("UPDATE coordinator_partition SET epoch = 2 WHERE id = 1")
        .execute(&mut conn)
        .await
        .unwrap();
    committed(&mut conn, &commit).await;
}

#[sqlx::test(migrations = false)]
async fn of_two_owners_at_once_one_commits(pool: PgPool) {
    drop(ready(&pool).await);
    let mut tasks = Vec::new();
    for number in 0..6 {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            let mut conn = pool.acquire().await.expect("a connection");
            storage::commit(&mut conn, &start_turn(1, id(number))).await
        }));
    }
    let mut written = 0;
    for task in tasks {
        let answer = task.await.expect("it does not panic");
        if matches!(answer, CommitAnswer::Committed { .. }) {
            written += 1;
        } else {
            assert_eq!(answer, CommitAnswer::Fenced { lost: vec![0] });
        }
    }
    assert_eq!(written, 1);
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(count(&mut conn, "workflow_execution").await, 1);
}
