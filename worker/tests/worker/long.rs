//! Jobs that run long: acknowledged before their end, and kept alive by heartbeats.

use std::time::Duration;

use flotilla_protocol::InboxMessage;
use flotilla_protocol::message::{TaskCompleted, TaskJob, TaskStarted};
use flotilla_worker::{ActionError, Context, Worker, WorkerConfig};
use serde_json::{Value, json};

use crate::fleet::{Fleet, assert_cancelled, job, result, with_fleet};
use crate::gate::{Gate, quiet};

fn hasty(fleet: &Fleet) -> WorkerConfig {
    WorkerConfig {
        acknowledge_after: Duration::from_millis(100),
        heartbeat: Duration::from_secs(1),
        ..quiet(fleet)
    }
}

async fn heartbeat(fleet: &mut Fleet) -> TaskStarted {
    let InboxMessage::Heartbeat(alive) = fleet.next().await else {
        panic!("the next message is a heartbeat");
    };
    alive
}

/// Waits for the announcement that a job is acknowledged.
async fn announced(fleet: &mut Fleet, job: &TaskJob) {
    let (_, message) = behind_heartbeats(fleet).await;
    let InboxMessage::Started(started) = message else {
        panic!("neither a start nor a heartbeat: {message:?}");
    };
    assert_eq!(
        (started.task_id, started.attempt),
        (job.task_id, job.attempt)
    );
    assert!(started.acknowledged);
    assert_eq!(started.heartbeat, Some(1.0));
}

/// The next message that is no heartbeat, and how many heartbeats came before it.
async fn behind_heartbeats(fleet: &mut Fleet) -> (usize, InboxMessage) {
    let mut beats = 0;
    loop {
        let message = fleet.next().await;
        if !matches!(message, InboxMessage::Heartbeat(_)) {
            return (beats, message);
        }
        beats += 1;
    }
}

/// The next completion, and how many heartbeats came before it.
async fn beats_until_end(fleet: &mut Fleet) -> (usize, TaskCompleted) {
    let (beats, message) = behind_heartbeats(fleet).await;
    let InboxMessage::Completed(mut all) = message else {
        panic!("neither a completion nor a heartbeat: {message:?}");
    };
    (beats, all.pop().unwrap())
}

/// The next completion; heartbeats before it are passed over.
async fn ended(fleet: &mut Fleet) -> TaskCompleted {
    beats_until_end(fleet).await.1
}

async fn result_of(fleet: &mut Fleet) -> Value {
    result(&ended(fleet).await)
}

#[tokio::test]
async fn a_long_job_is_acknowledged_before_its_end_and_beats() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(hasty(&fleet))).await;
        let long = job("test.gate", json!("done"));
        fleet.submit(&long).await;
        announced(&mut fleet, &long).await;
        for _ in 0..2 {
            let alive = heartbeat(&mut fleet).await;
            assert_eq!((alive.task_id, alive.attempt), (long.task_id, 1));
            assert_eq!((alive.heartbeat, alive.acknowledged), (Some(1.0), false));
        }
        gate.leave.add_permits(1);
        assert_eq!(result_of(&mut fleet).await, json!("done"));
        worker.drain().await;
        assert_eq!(gate.runs(), 1);
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_whose_task_asks_for_heartbeats_beats_from_its_start() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        let watched = TaskJob {
            heartbeat: Some(1.0),
            ..job("test.gate", json!("done"))
        };
        fleet.submit(&watched).await;
        for _ in 0..3 {
            let alive = heartbeat(&mut fleet).await;
            assert_eq!((alive.task_id, alive.attempt), (watched.task_id, 1));
            assert_eq!((alive.heartbeat, alive.acknowledged), (None, false));
        }
        gate.leave.add_permits(1);
        assert_eq!(result_of(&mut fleet).await, json!("done"));
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn an_acknowledged_job_does_not_come_back_when_its_worker_dies() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(hasty(&fleet))).await;
        let long = job("test.gate", json!(null));
        fleet.submit(&long).await;
        announced(&mut fleet, &long).await;
        // Heartbeats begin once it is acknowledged.
        heartbeat(&mut fleet).await;
        worker.kill().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_sent_again_while_it_runs_is_announced_again_and_runs_once() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(hasty(&fleet))).await;
        let long = job("test.gate", json!(7));
        fleet.submit(&long).await;
        announced(&mut fleet, &long).await;
        heartbeat(&mut fleet).await;
        fleet.submit(&long).await;
        announced(&mut fleet, &long).await;
        gate.leave.add_permits(1);
        assert_eq!(result_of(&mut fleet).await, json!(7));
        worker.drain().await;
        assert_eq!(gate.runs(), 1);
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_cancel_ends_an_acknowledged_job_and_a_drain_waits_for_one() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let mut worker = fleet.start(gate.worker(hasty(&fleet))).await;
        let (unwanted, wanted) = (job("test.gate", json!(1)), job("test.gate", json!(2)));
        fleet.submit(&unwanted).await;
        announced(&mut fleet, &unwanted).await;
        fleet.cancel(&unwanted, 1, "enough").await;
        let completed = ended(&mut fleet).await;
        assert_cancelled(&completed, &unwanted, "enough");
        fleet.submit(&wanted).await;
        announced(&mut fleet, &wanted).await;
        worker.shut_down();
        for _ in 0..3 {
            heartbeat(&mut fleet).await;
        }
        gate.leave.add_permits(1);
        assert_eq!(result_of(&mut fleet).await, json!(2));
        worker.ended().await.unwrap();
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_handler_tells_its_progress_but_not_too_often() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = Worker::new(quiet(&fleet)).action(
            "test.count",
            async |context: Context, steps: u32| {
                for step in 0..steps {
                    let progress = f64::from(step) / f64::from(steps);
                    context.heartbeat(Some(progress), json!({"step": step}));
                    tokio::task::yield_now().await;
                }
                Ok::<_, ActionError>(steps)
            },
        );
        let worker = fleet.start(worker).await;
        let count = job("test.count", json!(1_000));
        fleet.submit(&count).await;
        let alive = heartbeat(&mut fleet).await;
        assert_eq!((alive.progress, alive.heartbeat), (Some(0.0), None));
        assert_eq!(alive.detail.unwrap().get(), "{\"step\":0}");
        let (others, end) = beats_until_end(&mut fleet).await;
        assert_eq!(result(&end), json!(1_000));
        // One a second, and the steps take far less than that.
        assert!(others < 20, "{others} of 999");
        worker.drain().await;
        fleet
    })
    .await;
}
