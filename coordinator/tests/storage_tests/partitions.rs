//! Taking partitions over and giving them back.

use chrono::{TimeDelta, Utc};
use flotilla_coordinator::storage;
use flotilla_engine::execution::TimerKind;
use flotilla_turn::rows::{CommitAnswer, OutboxJob, OutboxReply, ReplyMessage, TimerRow};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{committed, id, ready, turn};

const OTHER: Uuid = Uuid::from_u128(2);

async fn expire_all(pool: &PgPool) {
    sqlx::query("UPDATE coordinator_partition SET lease_expires_at = clock_timestamp()")
        .execute(pool)
        .await
        .expect("leases expire");
}

#[sqlx::test(migrations = false)]
async fn only_expired_partitions_are_taken(pool: PgPool) {
    drop(ready(&pool).await);
    assert_eq!(
        storage::take_partitions(&pool, OTHER, 3.0, None)
            .await
            .unwrap(),
        []
    );
    sqlx::query("UPDATE coordinator_partition SET lease_expires_at = now() WHERE id IN (3, 5, 9)")
        .execute(&pool)
        .await
        .unwrap();
    let taken = storage::take_partitions(&pool, OTHER, 3.0, Some(2))
        .await
        .unwrap();
    let ids: Vec<_> = taken
        .iter()
        .map(|taken| (taken.partition, taken.epoch))
        .collect();
    assert_eq!(ids, [(3, 2), (5, 2)]);
    assert_eq!(
        storage::take_partitions(&pool, OTHER, 3.0, Some(0))
            .await
            .unwrap(),
        []
    );
}

#[sqlx::test(migrations = false)]
async fn a_taken_partition_fences_its_former_owner(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &turn(1, &[0])).await;
    expire_all(&pool).await;
    let taken = storage::take_partitions(&pool, OTHER, 3.0, None)
        .await
        .unwrap();
    assert_eq!((taken[0].epoch, taken[0].last_turn), (2, 1));
    let answer = storage::commit(&mut conn, &turn(2, &[0])).await;
    assert_eq!(answer, CommitAnswer::Fenced { lost: vec![0] });
    let mut mine = turn(2, &[0]);
    mine.partitions[0].epoch = 2;
    committed(&mut conn, &mine).await;
}

#[sqlx::test(migrations = false)]
async fn a_new_owner_is_told_what_is_owed(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let job = |partition, turn, run| OutboxJob {
        partition,
        turn,
        execution_id: id(1),
        run,
        attempt: 1,
    };
    let reply = |turn, message| OutboxReply {
        partition: 1,
        turn,
        reply_to: "answers".to_owned(),
        correlation_id: Some("c".to_owned()),
        message,
    };
    let started = ReplyMessage::Stored {
        message_type: "workflow.started".to_owned(),
        body: r#"{"z": 1, "a":  2}"#.to_owned(),
    };
    let finished = ReplyMessage::Finished {
        execution_id: id(1),
    };
    let due = Utc::now();
    let timer = |partition, run, due_at| TimerRow {
        execution_id: id(1),
        run,
        partition,
        kind: TimerKind::Retry,
        // Postgres holds microseconds.
        due_at: chrono::DateTime::from_timestamp_micros(due_at).unwrap(),
    };
    let soon = timer(1, 1, due.timestamp_micros());
    let late = timer(1, 2, (due + TimeDelta::hours(1)).timestamp_micros());
    let mut first = turn(1, &[0, 1]);
    first.jobs = vec![job(1, 1, 9)];
    committed(&mut conn, &first).await;
    let mut second = turn(2, &[0, 1]);
    second.partitions[1].dispatched_through = 1;
    second.jobs = vec![job(1, 2, 1), job(0, 2, 2), job(1, 2, 3)];
    second.replies = vec![reply(2, started.clone())];
    second.timers_set = vec![soon, late];
    committed(&mut conn, &second).await;
    let mut third = turn(3, &[0, 1]);
    third.replies = vec![reply(3, finished.clone())];
    committed(&mut conn, &third).await;

    expire_all(&pool).await;
    let taken = storage::take_partitions(&pool, OTHER, 3.0, None)
        .await
        .unwrap();
    assert_eq!(taken[0].jobs, [job(0, 2, 2)]);
    assert_eq!(taken[0].replies, []);
    assert_eq!(taken[1].dispatched_through, 1);
    assert_eq!(taken[1].last_turn, 3);
    assert_eq!(taken[1].jobs, [job(1, 2, 1), job(1, 2, 3)]);
    assert_eq!(taken[1].replies, [reply(2, started), reply(3, finished)]);
    assert_eq!(taken[1].timers, [soon]);
    assert!(taken[1].timers_until > due && taken[1].timers_until < late.due_at);
    assert_eq!(taken.len(), 16);
}

#[sqlx::test(migrations = false)]
async fn two_that_take_at_once_share(pool: PgPool) {
    storage::migrate(&pool, None).await.unwrap();
    let take = |number| storage::take_partitions(&pool, Uuid::from_u128(number), 60.0, Some(10));
    let (one, two) = tokio::join!(take(1), take(2));
    let (one, two) = (one.unwrap(), two.unwrap());
    let more = storage::take_partitions(&pool, OTHER, 60.0, None)
        .await
        .unwrap();
    let mut ids: Vec<_> = one
        .iter()
        .chain(&two)
        .chain(&more)
        .map(|t| t.partition)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..16).collect::<Vec<_>>());
}

#[sqlx::test(migrations = false)]
async fn a_released_partition_can_be_taken_at_once(pool: PgPool) {
    drop(ready(&pool).await);
    let me = Uuid::from_u128(1);
    let stale = storage::release_partitions(&pool, me, &[(0, 7)])
        .await
        .unwrap();
    assert_eq!(stale, 0);
    let foreign = storage::release_partitions(&pool, OTHER, &[(0, 1)])
        .await
        .unwrap();
    assert_eq!(foreign, 0);
    let released = storage::release_partitions(&pool, me, &[(4, 1), (2, 1)])
        .await
        .unwrap();
    assert_eq!(released, 2);
    let taken = storage::take_partitions(&pool, OTHER, 3.0, None)
        .await
        .unwrap();
    let ids: Vec<_> = taken
        .iter()
        .map(|taken| (taken.partition, taken.epoch))
        .collect();
    assert_eq!(ids, [(2, 2), (4, 2)]);
}

#[sqlx::test(migrations = false)]
async fn coordinators_are_counted_while_they_are_seen(pool: PgPool) {
    storage::migrate(&pool, Some(4)).await.unwrap();
    let (_, partitions) = storage::register_coordinator(&pool, OTHER, "two")
        .await
        .unwrap();
    assert_eq!(partitions, 4);
    assert!(storage::say_alive(&pool, OTHER).await.unwrap());
    assert!(!storage::say_alive(&pool, Uuid::from_u128(9)).await.unwrap());
    assert_eq!(
        storage::live_coordinators(&pool, 5.0).await.unwrap(),
        (1, 4)
    );
    sqlx::query("UPDATE coordinator SET seen_at = now() - interval '8 days'")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(
        storage::live_coordinators(&pool, 5.0).await.unwrap(),
        (0, 4)
    );
    storage::register_coordinator(&pool, Uuid::from_u128(3), "three")
        .await
        .unwrap();
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM coordinator")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(names, ["three"]);
}
