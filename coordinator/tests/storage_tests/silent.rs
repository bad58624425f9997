//! Jobs of which nothing has been heard: found by pool, so that many that wait hide none that are lost.

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_coordinator::storage;
use flotilla_protocol::RunNo;
use flotilla_turn::rows::{LostJob, TaskRow};
use sqlx::PgPool;

use crate::support::{committed, id, new_execution, ready, start, state, task, turn};

/// Seconds after which a job counts as silent here.
const AFTER_S: f64 = 900.0;
/// More than one look finds.
const WAITING: RunNo = 1_001;

fn job(run: RunNo, pool: &str, dispatched_at: DateTime<Utc>) -> TaskRow {
    TaskRow {
        pool: Some(pool.to_owned()),
        dispatched_at: Some(dispatched_at),
        ..task(id(1), run)
    }
}

#[sqlx::test(migrations = false)]
async fn many_jobs_that_wait_do_not_hide_the_lost_ones_of_another_pool(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let now = Utc::now();
    let (lost, young) = (WAITING + 1, WAITING + 2);
    let mut commit = turn(1, &[0]);
    commit.starts.push(start(id(1), None));
    let mut execution = new_execution(id(1));
    let runs: Vec<RunNo> = (1..=young).collect();
    execution.state = state(id(1), &runs);
    commit.new_executions.push(execution);
    let long_ago = now - TimeDelta::hours(2);
    commit.new_tasks = (1..=WAITING)
        .map(|run| job(run, "waiting", long_ago))
        .collect();
    let ago = now - TimeDelta::hours(1);
    commit.new_tasks.push(job(lost, "lost", ago));
    commit.new_tasks.push(job(young, "young", now));
    committed(&mut conn, &commit).await;

    let mut pools = storage::load_silent_pools(&pool, &[0], AFTER_S)
        .await
        .unwrap();
    pools.sort();
    assert_eq!(pools, ["lost", "waiting"]);
    let found = async |pools: &[&str]| {
        let pools: Vec<String> = pools.iter().copied().map(str::to_owned).collect();
        storage::load_silent_jobs(&pool, &[0], &pools, AFTER_S).await
    };
    let expected = LostJob {
        partition: 0,
        execution_id: id(1),
        run: lost,
        attempt: 1,
    };
    let jobs = found(&["lost", "young"]).await.unwrap();
    assert_eq!(jobs, [(expected, "lost".to_owned())]);
    // All of these would be lost at once: the next look finds the rest.
    let jobs = found(&["lost", "waiting"]).await.unwrap();
    assert_eq!(jobs.len(), 1_000);
    assert!(jobs.iter().all(|(_, pool)| pool == "waiting"));

    let elsewhere = storage::load_silent_pools(&pool, &[1], AFTER_S).await;
    assert_eq!(elsewhere.unwrap(), Vec::<String>::new());
}
