//! `task.cancel`: what it ends, what it keeps from running, and what it leaves alone.

use flotilla_protocol::message::CompletionStatus;
use flotilla_worker::WorkerConfig;
use serde_json::json;

use crate::fleet::{assert_cancelled, job, result, with_fleet};
use crate::gate::{Gate, quiet};
use crate::proxy::Proxy;

#[tokio::test]
async fn a_cancel_drops_the_handler() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        let unwanted = job("test.gate", json!(null));
        fleet.submit(&unwanted).await;
        gate.has_run(1).await;
        fleet.cancel(&unwanted, 1, "no longer wanted").await;
        // It is repeated as long as the attempt seems to run.
        fleet.cancel(&unwanted, 1, "no longer wanted").await;
        assert_cancelled(&fleet.completion().await, &unwanted, "no longer wanted");
        // Were the handler still there, it would be let through in place of the next.
        gate.leave.add_permits(1);
        fleet.run(&job("test.gate", json!(null))).await;
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_cancel_of_another_attempt_does_nothing() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        let mut wanted = job("test.gate", json!("done"));
        wanted.attempt = 2;
        fleet.submit(&wanted).await;
        gate.has_run(1).await;
        fleet.cancel(&wanted, 1, "too late").await;
        fleet.cancel(&wanted, 3, "too early").await;
        fleet.worker_has_seen_cancels().await;
        gate.leave.add_permits(1);
        let completed = fleet.completion().await;
        assert_eq!(completed.task_id, wanted.task_id);
        assert_eq!(completed.status, CompletionStatus::Succeeded);
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_job_of_the_backlog_is_not_run() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let config = WorkerConfig {
            concurrency: 1,
            prefetch: Some(3),
            ..quiet(&fleet)
        };
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(config)).await;
        let jobs = ["first", "unwanted", "last"].map(|name| job("test.gate", json!(name)));
        for job in &jobs {
            fleet.submit(job).await;
        }
        gate.has_run(1).await;
        fleet.jobs_wait(0).await;
        fleet.cancel(&jobs[1], 1, "no longer wanted").await;
        assert_cancelled(&fleet.completion().await, &jobs[1], "no longer wanted");
        gate.leave.add_permits(2);
        assert_eq!(result(&fleet.completion().await), json!("first"));
        assert_eq!(result(&fleet.completion().await), json!("last"));
        assert_eq!(gate.runs(), 2);
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_it_is_announced_is_not_run() {
    with_fleet(async |mut fleet| {
        let gate = Gate::new();
        let first = fleet.start(gate.worker(quiet(&fleet))).await;
        let unwanted = job("test.gate", json!(null));
        fleet.submit(&unwanted).await;
        gate.has_run(1).await;
        first.kill().await;
        fleet.jobs_wait(1).await;
        // Without an inbox the announcement is not confirmed.
        let second = fleet.start(gate.worker(quiet(&fleet))).await;
        fleet.jobs_wait(0).await;
        fleet.cancel(&unwanted, 1, "no longer wanted").await;
        fleet.worker_has_seen_cancels().await;
        fleet.open_inbox().await;
        let mut starts = 0;
        // Both are published until they are confirmed, so either may come first.
        for _ in 0..2 {
            match fleet.start_or_completion().await {
                Ok(started) => {
                    assert_eq!(started.task_id, unwanted.task_id);
                    starts += 1;
                }
                Err(completed) => assert_cancelled(&completed, &unwanted, "no longer wanted"),
            }
        }
        assert_eq!(starts, 1);
        fleet.run(&job("core.noop", json!(null))).await;
        assert_eq!(gate.runs(), 1);
        second.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_cancel_that_comes_before_its_job_is_remembered() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        let mut unwanted = job("test.gate", json!("next"));
        fleet.cancel(&unwanted, 1, "no longer wanted").await;
        fleet.worker_has_seen_cancels().await;
        // A job may be sent twice.
        for _ in 0..2 {
            let completed = fleet.run(&unwanted).await;
            assert_cancelled(&completed, &unwanted, "no longer wanted");
        }
        assert_eq!(gate.runs(), 0);
        unwanted.attempt = 2;
        gate.leave.add_permits(1);
        assert_eq!(result(&fleet.run(&unwanted).await), json!("next"));
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn each_session_listens_anew_and_a_drain_listens_too() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let proxy = Proxy::start(&fleet.url).await;
        let gate = Gate::new();
        let config = WorkerConfig {
            amqp_url: proxy.url.clone(),
            ..quiet(&fleet)
        };
        let mut worker = fleet.start(gate.worker(config)).await;
        let unwanted = job("test.gate", json!(null));
        fleet.submit(&unwanted).await;
        gate.has_run(1).await;
        proxy.cut();
        fleet.jobs_wait(1).await;
        proxy.mend();
        // That the job is fetched again does not say that the new session is there to be drained.
        let _answers = fleet.worker_has_published().await;
        worker.shut_down();
        fleet.cancel(&unwanted, 1, "no longer wanted").await;
        assert_cancelled(&fleet.completion().await, &unwanted, "no longer wanted");
        worker.ended().await.unwrap();
        assert_eq!(gate.runs(), 1);
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}
