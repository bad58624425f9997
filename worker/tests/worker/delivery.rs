//! Deliveries, confirms and acknowledgements.

use std::time::Duration;

use flotilla_protocol::amqp::{Outgoing, delete_queue};
use flotilla_protocol::message::CompletionStatus;
use flotilla_protocol::{Refusal, names};
use flotilla_worker::{Worker, WorkerConfig};
use serde_json::{Value, json};

use crate::fleet::{eventually, job, kind, result, with_fleet, within};
use crate::gate::{Gate, quiet};
use crate::proxy::Proxy;

#[tokio::test]
async fn a_busy_worker_gathers_completions() {
    with_fleet(async |mut fleet| {
        let config = WorkerConfig {
            concurrency: 100,
            ..fleet.config()
        };
        for number in 0..1_000 {
            let message = Outgoing::job(
                &fleet.pool,
                fleet.partition,
                &job("core.echo", json!(number)),
            );
            tokio::spawn(fleet.publisher.enqueue(message));
        }
        fleet.jobs_wait(1_000).await;
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(config).built_in()).await;
        let mut seen = vec![0; 1_000];
        for _ in 0..1_000 {
            let completed = fleet.completion().await;
            seen[usize::try_from(result(&completed).as_u64().unwrap()).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| count == 1), "lost or doubled");
        let messages = fleet.sizes.len();
        assert!(
            messages < 500,
            "1000 completions came in {messages} messages"
        );
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn only_slow_jobs_tell_that_they_started() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let config = WorkerConfig {
            started_after: Duration::from_secs(2),
            ..fleet.config()
        };
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(config)).await;
        fleet.run(&job("core.sleep", json!({"seconds": 0}))).await;
        let slow = job("test.gate", json!(1));
        fleet.submit(&slow).await;
        let started = fleet.started().await;
        assert_eq!((started.task_id, started.attempt), (slow.task_id, 1));
        assert_eq!(started.worker.as_deref(), Some("test-worker"));
        gate.leave.add_permits(1);
        let completed = fleet.completion().await;
        assert_eq!(completed.started_at, started.started_at);
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_whose_completion_is_not_confirmed_comes_again_and_is_announced() {
    with_fleet(async |mut fleet| {
        // Without an inbox the completion comes back, so it is never confirmed.
        let gate = Gate::new();
        gate.leave.add_permits(1);
        let first = fleet.start(gate.worker(quiet(&fleet))).await;
        let lost = job("test.gate", json!(null));
        fleet.submit(&lost).await;
        gate.has_run(1).await;
        first.kill().await;
        fleet.jobs_wait(1).await;

        let prompt = WorkerConfig {
            started_after: Duration::ZERO,
            ..fleet.config()
        };
        let second = fleet.start(gate.worker(prompt)).await;
        fleet.jobs_wait(0).await;
        assert_eq!(gate.runs(), 1, "it ran before it was announced");
        fleet.open_inbox().await;
        assert_eq!(fleet.started().await.task_id, lost.task_id);
        gate.has_run(2).await;
        // What has been announced is not told a second time, however long it runs.
        fleet.run(&job("core.noop", json!(null))).await;
        gate.leave.add_permits(1);
        assert_eq!(fleet.completion().await.task_id, lost.task_id);
        second.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_returned_completion_is_kept_and_its_job_too_until_the_inbox_is_back() {
    with_fleet(async |mut fleet| {
        let proxy = Proxy::start(&fleet.url).await;
        let gate = Gate::new();
        let config = WorkerConfig {
            amqp_url: proxy.url.clone(),
            ..quiet(&fleet)
        };
        let worker = fleet.start(gate.worker(config)).await;
        fleet.open_inbox().await;
        fleet.run(&job("core.noop", json!(null))).await;
        let kept = job("test.gate", json!("kept"));
        fleet.submit(&kept).await;
        gate.has_run(1).await;
        delete_queue(&fleet.connection, &fleet.inbox_queue())
            .await
            .unwrap();
        gate.let_end(1).await;
        let _answers = fleet.worker_has_published().await;
        // The broker still waits for the acknowledgement: without the worker, the job is back.
        proxy.cut();
        fleet.job_is_back(&kept).await;
        proxy.mend();
        fleet.jobs_wait(0).await;
        for _ in 0..3 {
            fleet.submit(&job("core.noop", json!(null))).await;
        }
        fleet.jobs_wait(0).await;
        fleet.open_inbox().await;
        assert_eq!(result(&fleet.completion().await), json!("kept"));
        for _ in 0..3 {
            fleet.completion().await;
        }
        assert_eq!(gate.runs(), 1);
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_completion_of_a_lost_session_still_reaches_the_inbox() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let proxy = Proxy::start(&fleet.url).await;
        let gate = Gate::new();
        let config = WorkerConfig {
            amqp_url: proxy.url.clone(),
            name: "frozen".to_owned(),
            ..quiet(&fleet)
        };
        let frozen = fleet.start(gate.worker(config)).await;
        let lost = job("test.gate", json!(null));
        fleet.submit(&lost).await;
        gate.has_run(1).await;
        proxy.cut();
        fleet.jobs_wait(1).await;
        let other = fleet.start(gate.worker(quiet(&fleet))).await;
        assert_eq!(fleet.started().await.task_id, lost.task_id);
        gate.has_run(2).await;
        // Whoever waits longest is let through first.
        gate.let_end(1).await;
        gate.let_end(1).await;
        let completed = fleet.completion().await;
        assert_eq!(completed.worker.as_deref(), Some("test-worker"));
        proxy.mend();
        let late = fleet.completion().await;
        assert_eq!((late.task_id, late.attempt), (lost.task_id, 1));
        assert_eq!(late.worker.as_deref(), Some("frozen"));
        other.drain().await;
        let next = job("core.noop", json!(null));
        fleet.submit(&next).await;
        assert_eq!(fleet.completion().await.task_id, next.task_id);
        frozen.drain().await;
        assert_eq!(gate.runs(), 2);
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_that_comes_twice_runs_once_at_a_time() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        let twice = job("test.gate", json!(null));
        fleet.submit(&twice).await;
        gate.has_run(1).await;
        fleet.submit(&twice).await;
        fleet.run(&job("core.noop", json!(null))).await;
        gate.leave.add_permits(1);
        assert_eq!(fleet.completion().await.task_id, twice.task_id);
        worker.drain().await;
        assert_eq!(gate.runs(), 1);
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_outlives_its_queue_and_the_worker_consumes_the_next() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        fleet.submit(&job("test.gate", json!("old"))).await;
        gate.has_run(1).await;
        delete_queue(&fleet.connection, &fleet.jobs_queue())
            .await
            .unwrap();
        // The worker makes the queue anew, and binds it a moment later.
        let new = job("core.echo", json!("new"));
        eventually(async || fleet.try_submit(&new).await).await;
        let completed = fleet.completion().await;
        assert_eq!(result(&completed), json!("new"));
        gate.leave.add_permits(1);
        assert_eq!(result(&fleet.completion().await), json!("old"));
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_outlives_the_connection_and_does_not_run_beside_itself() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let proxy = Proxy::start(&fleet.url).await;
        let gate = Gate::new();
        let config = WorkerConfig {
            amqp_url: proxy.url.clone(),
            ..quiet(&fleet)
        };
        let worker = fleet.start(gate.worker(config)).await;
        let kept = job("test.gate", json!(null));
        fleet.submit(&kept).await;
        gate.has_run(1).await;
        for _ in 0..3 {
            proxy.cut();
            fleet.jobs_wait(1).await;
            proxy.mend();
            // The worker is back and has been handed the job again.
            fleet.jobs_wait(0).await;
        }
        fleet.run(&job("core.noop", json!(null))).await;
        gate.leave.add_permits(1);
        assert_eq!(fleet.completion().await.task_id, kept.task_id);
        assert_eq!(gate.runs(), 1);
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn the_time_limit_drops_the_handler() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        let mut slow = job("test.gate", json!(null));
        slow.timeout = Some(0.05);
        let completed = fleet.run(&slow).await;
        assert_eq!(completed.status, CompletionStatus::TimedOut);
        assert_eq!(completed.error.unwrap().kind, "task_timeout");
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_job_is_a_dead_letter_and_is_answered() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let mut dead = fleet.connection.consume(names::DEAD, 0).await.unwrap();
        let worker = fleet.start_built_in().await;
        let unreadable = job("core.noop", json!(null));
        let mut message = Outgoing::job(&fleet.pool, fleet.partition, &unreadable);
        let mut body: Value = serde_json::from_slice(&message.body).unwrap();
        body["workflow"] = json!(7);
        message.body = serde_json::to_vec(&body).unwrap();
        let message_id = message.message_id.clone();
        fleet.publish(message).await;

        let completed = fleet.completion().await;
        assert_eq!(completed.task_id, unreadable.task_id);
        assert_eq!(kind(&completed), "contract_violation");
        // The queue is everybody's: what is not ours goes back when the consumer ends.
        let letter = loop {
            let letter = within(dead.next()).await.unwrap();
            if letter.envelope.message_id == message_id {
                break letter;
            }
        };
        dead.acker().ack(letter.tag, false).await.unwrap();
        dead.close().await;
        assert_eq!(
            letter.envelope.reason.as_deref(),
            Some(Refusal::WrongType.reason())
        );
        assert_eq!(letter.envelope.original_queue, Some(fleet.jobs_queue()));
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}
