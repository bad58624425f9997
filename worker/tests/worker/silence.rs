//! Consumers that die without a word.

use std::time::Duration;

use flotilla_protocol::amqp::{declare_pool, delete_queue};
use flotilla_protocol::message::TaskJob;
use flotilla_worker::WorkerConfig;
use serde_json::json;

use crate::fleet::{Fleet, eventually, job, with_fleet};
use crate::gate::{Gate, quiet};

/// Settings with which a pool is never silent for long.
fn watchful(fleet: &Fleet) -> WorkerConfig {
    WorkerConfig {
        silence_limit: Duration::from_millis(200),
        ..quiet(fleet)
    }
}

#[tokio::test]
async fn a_queue_that_is_deleted_and_made_again_at_once_is_consumed() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(watchful(&fleet))).await;
        // Whether the broker tells the worker is a matter of luck.
        for _ in 0..5 {
            remake_queue(&fleet).await;
            let next = job("core.noop", json!(null));
            fleet.submit(&next).await;
            completed(&mut fleet, &next).await;
        }
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_that_runs_is_not_given_back_because_nothing_else_comes() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let config = WorkerConfig {
            silence_limit: Duration::from_millis(20),
            ..quiet(&fleet)
        };
        let first = fleet.start(gate.worker(config.clone())).await;
        let second = fleet.start(gate.worker(config)).await;
        let long = job("test.gate", json!(null));
        fleet.submit(&long).await;
        gate.has_run(1).await;
        // Given back, it would be run by the other: nothing else can be waited for.
        tokio::time::sleep(Duration::from_millis(400)).await;
        gate.leave.add_permits(1);
        completed(&mut fleet, &long).await;
        assert_eq!(gate.runs(), 1);
        // Between two jobs the pool is idle, and a job may meet the change of consumers.
        for _ in 0..50 {
            let next = job("core.sleep", json!({"seconds": 0.02}));
            fleet.submit(&next).await;
            completed(&mut fleet, &next).await;
        }
        first.drain().await;
        second.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_missing_queue_is_made_again() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(watchful(&fleet))).await;
        remake_queue(&fleet).await;
        delete_queue(&fleet.connection, &fleet.jobs_queue())
            .await
            .unwrap();
        fleet.jobs_wait(0).await;
        let next = job("core.noop", json!(null));
        // The queue is there a moment before it is bound.
        eventually(async || fleet.try_submit(&next).await).await;
        completed(&mut fleet, &next).await;
        worker.drain().await;
        fleet
    })
    .await;
}

async fn remake_queue(fleet: &Fleet) {
    delete_queue(&fleet.connection, &fleet.jobs_queue())
        .await
        .unwrap();
    declare_pool(&fleet.connection, &fleet.pool).await.unwrap();
}

/// Waits for the completion of a job, which may have been delivered more than once.
async fn completed(fleet: &mut Fleet, job: &TaskJob) {
    loop {
        match fleet.start_or_completion().await {
            Ok(started) => assert_eq!(started.task_id, job.task_id),
            Err(completed) => {
                assert_eq!(completed.task_id, job.task_id);
                return;
            }
        }
    }
}
