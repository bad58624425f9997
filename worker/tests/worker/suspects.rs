//! Jobs that were delivered often: they may have killed workers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use flotilla_protocol::TaskId;
use flotilla_worker::{Context, Worker, WorkerConfig};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::fleet::{Fleet, assert_cancelled, job, with_fleet, within};
use crate::gate::{Gate, quiet};

/// Tells the worker that dies the name of its pool.
const POOL: &str = "FLOTILLA_TEST_POOL";

#[tokio::test]
async fn suspects_run_one_at_a_time_and_others_beside_them() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let jobs = ["one", "two"].map(|name| job("test.gate", json!(name)));
        for job in &jobs {
            fleet.submit(job).await;
        }
        for deliveries in 1..=3 {
            let worker = fleet.start(gate.worker(quiet(&fleet))).await;
            gate.has_run(deliveries * 2).await;
            worker.kill().await;
            fleet.jobs_wait(2).await;
            let announcements = if deliveries == 1 { 0 } else { 2 };
            for _ in 0..announcements {
                fleet.started().await;
            }
        }
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        for (job, runs) in jobs.iter().zip(7..) {
            assert_eq!(fleet.started().await.task_id, job.task_id);
            gate.has_run(runs).await;
            fleet.jobs_wait(0).await;
            fleet
                .run(&crate::fleet::job("core.noop", json!(null)))
                .await;
            gate.leave.add_permits(1);
            assert_eq!(fleet.completion().await.task_id, job.task_id);
        }
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_suspect_whose_start_is_answered_by_a_cancel_does_not_run() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let unwanted = job("test.gate", json!(null));
        fleet.submit(&unwanted).await;
        for deliveries in 1..=3 {
            let worker = fleet.start(gate.worker(quiet(&fleet))).await;
            gate.has_run(deliveries).await;
            worker.kill().await;
            fleet.jobs_wait(1).await;
            if deliveries > 1 {
                fleet.started().await;
            }
        }
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        assert_eq!(fleet.started().await.task_id, unwanted.task_id);
        fleet.cancel(&unwanted, 1, "it was given up").await;
        let completed = fleet.completion().await;
        assert_cancelled(&completed, &unwanted, "it was given up");
        fleet.run(&job("core.noop", json!(null))).await;
        assert_eq!(gate.runs(), 3);
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_job_that_kills_workers_does_not_take_the_innocent_with_it() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let alive = Lethal::new();
        let killer = job("test.kill", json!({"while": alive.path}));
        for number in 0..51 {
            let innocent = job("core.sleep", json!({"seconds": 0.02}));
            fleet
                .submit(if number == 5 { &killer } else { &innocent })
                .await;
        }
        for _ in 0..6 {
            let mut worker = start_process(&fleet);
            let status = within(worker.wait()).await.unwrap();
            assert!(!status.success(), "the killer did not kill: {status}");
        }
        drop(alive);
        let _worker = start_process(&fleet);
        let seen = all_end(&mut fleet, 51).await;
        // Its first delivery is not announced, the five deaths after it are, and its last run.
        assert_eq!(seen[&killer.task_id].announced, 6);
        for (task_id, seen) in seen {
            if task_id != killer.task_id {
                assert!(seen.announced <= 3, "an innocent was announced: {seen:?}");
            }
        }
        fleet
    })
    .await;
}

#[tokio::test]
#[ignore = "the process that the test above starts and the killer ends"]
async fn a_worker_that_dies() {
    let Ok(pool) = std::env::var(POOL) else {
        return;
    };
    let url = std::env::var("AMQP_URL").unwrap();
    let config = WorkerConfig {
        pools: vec![pool],
        started_after: Duration::from_secs(60),
        ..WorkerConfig::new(url)
    };
    let worker =
        Worker::new(config)
            .built_in()
            .action("test.kill", async |_: Context, input: Value| {
                if std::fs::exists(input["while"].as_str().unwrap_or_default())? {
                    std::process::abort();
                }
                Ok(())
            });
    worker.run(std::future::pending()).await.unwrap();
}

fn start_process(fleet: &Fleet) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "suspects::a_worker_that_dies", "--ignored"])
        .env(POOL, &fleet.pool)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What the inbox has heard of a task.
#[derive(Debug, Default)]
struct Seen {
    announced: usize,
    completed: usize,
}

/// Reads the inbox until so many tasks have a completion.
async fn all_end(fleet: &mut Fleet, tasks: usize) -> BTreeMap<TaskId, Seen> {
    let mut all = BTreeMap::<TaskId, Seen>::new();
    while all.values().filter(|seen| seen.completed > 0).count() < tasks {
        match fleet.start_or_completion().await {
            Ok(started) => all.entry(started.task_id).or_default().announced += 1,
            Err(completed) => all.entry(completed.task_id).or_default().completed += 1,
        }
    }
    all
}

/// A file; while it is there, the killer kills.
struct Lethal {
    path: PathBuf,
}

impl Lethal {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("flotilla-test-{}", Uuid::now_v7()));
        std::fs::write(&path, "").unwrap();
        Self { path }
    }
}

impl Drop for Lethal {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
