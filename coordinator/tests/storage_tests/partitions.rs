//! Taking partitions over and giving them back.

use chrono::{TimeDelta, Utc};
use flotilla_coordinator::storage;
use flotilla_engine::execution::{TimerKind, TransitionKind};
use flotilla_turn::rows::{
    CommitAnswer, Epoch, OutboxJob, OutboxReply, PartitionNo, ReplyMessage, TakenPartition,
    TimerRow,
};
use sqlx::{ConnectOptions, PgPool};
use uuid::Uuid;

use crate::support::{committed, id, json, ready, start_turn, transition, turn};

const OTHER: Uuid = Uuid::from_u128(2);

async fn expire_all(pool: &PgPool) {
    sqlx::query("UPDATE coordinator_partition SET lease_expires_at = clock_timestamp()")
        .execute(pool)
        .await
        .expect("leases expire");
}

/// Takes what is free, and gives the partitions with their epochs.
async fn take(pool: &PgPool, owner: Uuid, lease_s: f64) -> Vec<TakenPartition> {
    let taken = storage::take_partitions(pool, owner, lease_s).await;
    taken.expect("partitions can be taken").0
}

fn epochs(taken: &[TakenPartition]) -> Vec<(PartitionNo, Epoch)> {
    let epochs = taken.iter().map(|taken| (taken.partition, taken.epoch));
    epochs.collect()
}

#[sqlx::test(migrations = false)]
async fn only_expired_partitions_are_taken(pool: PgPool) {
    drop(ready(&pool).await);
    assert_eq!(take(&pool, OTHER, 3.0).await, []);
    sqlx::query("UPDATE coordinator_partition SET lease_expires_at = now() WHERE id IN (3, 5, 9)")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(
        epochs(&take(&pool, OTHER, 3.0).await),
        [(3, 2), (5, 2), (9, 2)]
    );
}

#[sqlx::test(migrations = false)]
async fn timers_of_heartbeats_are_loaded_with_a_fresh_window(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut commit = start_turn(1, id(1));
    let mut acknowledged = transition(id(1), 2);
    acknowledged.kind = TransitionKind::TaskStarted;
    acknowledged.task_id = Some(commit.new_tasks[0].task_id);
    acknowledged.detail = Some(json(r#"{"heartbeat": 40.5, "acknowledged": true}"#));
    commit.transitions.push(acknowledged);
    let now = Utc::now();
    let heartbeat = |run, due_at| TimerRow {
        execution_id: id(1),
        run,
        partition: 0,
        kind: TimerKind::Heartbeat,
        due_at,
    };
    let hour = TimeDelta::hours(1);
    // Nothing is known of the second run's worker.
    commit.timers_set = vec![heartbeat(1, now - hour), heartbeat(2, now - hour)];
    committed(&mut conn, &commit).await;
    let timers = storage::load_timers(&pool, 0, now - hour * 2, now + hour).await;
    let timers = timers.unwrap();
    let due = |run| timers.iter().find(|timer| timer.run == run).unwrap().due_at;
    let window = due(1) - now;
    assert!(
        window > TimeDelta::seconds(40) && window < TimeDelta::seconds(60),
        "{window}"
    );
    assert!(due(2) < now);
}

#[sqlx::test(migrations = false)]
async fn nobody_takes_more_than_an_even_share(pool: PgPool) {
    storage::migrate(&pool, Some(5)).await.unwrap();
    for number in 1..=3 {
        let id = Uuid::from_u128(number);
        storage::register_coordinator(&pool, id, "one of three")
            .await
            .unwrap();
    }
    let (taken, share) = storage::take_partitions(&pool, OTHER, 60.0).await.unwrap();
    assert_eq!((taken.len(), share.partitions, share.held), (2, 2, 0));
    let (taken, share) = storage::take_partitions(&pool, OTHER, 60.0).await.unwrap();
    assert_eq!((taken.len(), share.partitions, share.held), (0, 2, 2));
    // One has stopped, one has not been seen for longer than a lease: all is for the one that lives.
    storage::release_partitions(&pool, Uuid::from_u128(1), &[], true)
        .await
        .unwrap();
    sqlx::query("UPDATE coordinator SET seen_at = now() - interval '61 s' WHERE id <> $1")
        .bind(OTHER)
        .execute(&pool)
        .await
        .unwrap();
    let (taken, share) = storage::take_partitions(&pool, OTHER, 60.0).await.unwrap();
    assert_eq!((taken.len(), share.partitions, share.held), (3, 5, 2));
}

#[sqlx::test(migrations = false)]
async fn others_are_told_of_partitions_that_are_let_go(pool: PgPool) {
    drop(ready(&pool).await);
    let url = pool.connect_options().to_url_lossy();
    let mut listener = storage::listen(url.as_str()).await.unwrap();
    storage::release_partitions(&pool, Uuid::from_u128(1), &[(0, 1)], false)
        .await
        .unwrap();
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), listener.recv()).await;
    assert!(told.expect("a notification comes").is_ok());
}

#[sqlx::test(migrations = false)]
async fn a_taken_partition_fences_its_former_owner(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &turn(1, &[0])).await;
    expire_all(&pool).await;
    let taken = take(&pool, OTHER, 3.0).await;
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
    let taken = take(&pool, OTHER, 3.0).await;
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
    let (one, two) = tokio::join!(
        take(&pool, Uuid::from_u128(1), 60.0),
        take(&pool, OTHER, 60.0)
    );
    let mut ids: Vec<_> = one.iter().chain(&two).map(|t| t.partition).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..16).collect::<Vec<_>>());
}

#[sqlx::test(migrations = false)]
async fn a_released_partition_can_be_taken_at_once(pool: PgPool) {
    drop(ready(&pool).await);
    let me = Uuid::from_u128(1);
    let stale = storage::release_partitions(&pool, me, &[(0, 7)], false)
        .await
        .unwrap();
    assert_eq!(stale, 0);
    let foreign = storage::release_partitions(&pool, OTHER, &[(0, 1)], false)
        .await
        .unwrap();
    assert_eq!(foreign, 0);
    let released = storage::release_partitions(&pool, me, &[(4, 1), (2, 1)], false)
        .await
        .unwrap();
    assert_eq!(released, 2);
    let taken = take(&pool, OTHER, 3.0).await;
    assert_eq!(epochs(&taken), [(2, 2), (4, 2)]);
}

#[sqlx::test(migrations = false)]
async fn coordinators_that_were_not_seen_for_a_week_are_forgotten(pool: PgPool) {
    storage::migrate(&pool, Some(4)).await.unwrap();
    let (_, partitions) = storage::register_coordinator(&pool, OTHER, "two")
        .await
        .unwrap();
    assert_eq!(partitions, 4);
    sqlx::query("UPDATE coordinator SET seen_at = now() - interval '8 days'")
        .execute(&pool)
        .await
        .unwrap();
    storage::register_coordinator(&pool, Uuid::from_u128(3), "three")
        .await
        .unwrap();
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM coordinator")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(names, ["three"]);
}
